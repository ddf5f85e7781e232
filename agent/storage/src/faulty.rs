//! A store that fails on request, around any other: tests script what a sick bucket does, down to writes that land while
//! their answer is lost. I/O only through the store it wraps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;

use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::store::{ListPage, ListRequest, ObjectMeta, ObjectStore, ObjectStream, Put, PutMode};
use crate::upload::{Part, PartReceipt, PendingUpload, Upload};

/// What a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    Head,
    Get,
    Put,
    BeginUpload,
    PutPart,
    Complete,
    Abort,
    List,
    Delete,
    ListUploads,
    ServerTime,
}

/// One scripted misfortune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Fails without reaching the store.
    Fail(StoreError),
    /// Reaches the store and takes effect; only the answer is lost.
    LandThenFail(StoreError),
    /// Takes this much longer.
    Delay(Duration),
    /// The body of a get breaks off with [`StoreError::Unavailable`] after this many bytes.
    BreakBodyAfter(u64),
    /// One bit of the byte at this offset of a get's body arrives flipped.
    FlipBit(u64),
    /// Never answers.
    Hang,
}

#[derive(Debug, Default)]
struct Script {
    /// Faults by operation and the number of its call, from 1.
    faults: HashMap<(Operation, u64), Fault>,
    calls: HashMap<Operation, u64>,
}

/// See the module's own words. Clones share script and counters.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
struct Control {
    script: Mutex<Script>,
    down: AtomicBool,
}

impl Control {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call and carries out what comes before the store is reached.
    async fn enter(&self, operation: Operation, store: &str) -> Result<Option<Fault>, StoreError> {
        let fault = {
            let mut script = self.script();
            let call = script.calls.entry(operation).or_default();
            *call += 1;
            let call = *call;
            script.faults.remove(&(operation, call))
        };
        if self.down.load(Ordering::SeqCst) {
            return Err(unavailable(store, "connection refused"));
        }
        match fault {
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::Delay(pause)) => {
                tokio::time::sleep(pause).await;
                Ok(None)
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(fault @ (Fault::LandThenFail(_) | Fault::BreakBodyAfter(_) | Fault::FlipBit(_))) => Ok(Some(fault)),
            None => Ok(None),
        }
    }
}

fn unavailable(store: &str, words: &str) -> StoreError {
    StoreError::Unavailable { store: store.to_owned(), words: words.to_owned() }
}

/// Replaces the answer of something that took effect.
fn leave<T>(fault: Option<Fault>, result: Result<T, StoreError>) -> Result<T, StoreError> {
    match (fault, result) {
        (Some(Fault::LandThenFail(error)), Ok(_landed)) => Err(error),
        (_, result) => result,
    }
}

impl FaultyStore {
    /// A store that behaves as `inner` until told otherwise.
    pub fn new(inner: impl ObjectStore + 'static) -> Self {
        Self { inner: Arc::new(inner), control: Arc::default() }
    }

    /// Plans a fault for one call of an operation: `1` is the first ever, counted over all clones.
    pub fn plan(&self, operation: Operation, call: u64, fault: Fault) {
        self.control.script().faults.insert((operation, call), fault);
    }

    /// Plans a fault for the next call of an operation.
    pub fn plan_next(&self, operation: Operation, fault: Fault) {
        let next = self.calls(operation) + 1;
        self.plan(operation, next, fault);
    }

    /// Makes every call fail as unavailable, until set back.
    pub fn set_down(&self, down: bool) {
        self.control.down.store(down, Ordering::SeqCst);
    }

    /// How often an operation was called, failed calls included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.control.script().calls.get(&operation).copied().unwrap_or(0)
    }

    async fn enter(&self, operation: Operation) -> Result<Option<Fault>, StoreError> {
        self.control.enter(operation, &self.inner.describe()).await
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn uri(&self, key: &ObjectKey) -> String {
        self.inner.uri(key)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, StoreError> {
        let fault = self.enter(Operation::Head).await?;
        leave(fault, self.inner.head(key).await)
    }

    async fn get_from(&self, key: &ObjectKey, offset: u64) -> Result<ObjectStream, StoreError> {
        let fault = self.enter(Operation::Get).await?;
        let stream = self.inner.get_from(key, offset).await;
        match fault {
            Some(Fault::BreakBodyAfter(bytes)) => stream.map(|stream| break_after(stream, bytes, &self.describe())),
            Some(Fault::FlipBit(at)) => stream.map(|stream| flip_bit(stream, at)),
            fault => leave(fault, stream),
        }
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<Put, StoreError> {
        let fault = self.enter(Operation::Put).await?;
        leave(fault, self.inner.put(key, body, mode).await)
    }

    async fn begin_upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>, StoreError> {
        let fault = self.enter(Operation::BeginUpload).await?;
        let inner = leave(fault, self.inner.begin_upload(key).await)?;
        Ok(Box::new(FaultyUpload { inner, store: self.clone() }))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let fault = self.enter(Operation::List).await?;
        leave(fault, self.inner.list(request).await)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let fault = self.enter(Operation::Delete).await?;
        leave(fault, self.inner.delete(key).await)
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        let fault = self.enter(Operation::ListUploads).await?;
        leave(fault, self.inner.list_uploads(prefix).await)
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<(), StoreError> {
        let fault = self.enter(Operation::Abort).await?;
        leave(fault, self.inner.abort_upload(upload).await)
    }

    async fn check_lock(&self) -> Result<(), StoreError> {
        self.inner.check_lock().await
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let fault = self.enter(Operation::ServerTime).await?;
        leave(fault, self.inner.server_time().await)
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn Upload>,
    store: FaultyStore,
}

#[async_trait]
impl Upload for FaultyUpload {
    fn pending(&self) -> PendingUpload {
        self.inner.pending()
    }

    async fn put_part(&self, part: Part) -> Result<PartReceipt, StoreError> {
        let fault = self.store.enter(Operation::PutPart).await?;
        leave(fault, self.inner.put_part(part).await)
    }

    async fn complete(&self, parts: Vec<PartReceipt>) -> Result<ObjectMeta, StoreError> {
        let fault = self.store.enter(Operation::Complete).await?;
        leave(fault, self.inner.complete(parts).await)
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let fault = self.store.enter(Operation::Abort).await?;
        leave(fault, self.inner.abort().await)
    }
}

fn break_after(stream: ObjectStream, bytes: u64, store: &str) -> ObjectStream {
    let ObjectStream { meta, body } = stream;
    let broken = Err(unavailable(store, "connection reset by peer"));
    let whole_until_then = body.scan(bytes, |left, chunk| {
        let next = match (*left, chunk) {
            (0, _) => None,
            (_, Err(error)) => Some(Err(error)),
            (allowed, Ok(mut chunk)) => {
                chunk.truncate(usize::try_from(allowed).unwrap_or(usize::MAX));
                *left = allowed - chunk.len() as u64;
                Some(Ok(chunk))
            }
        };
        std::future::ready(next)
    });
    let body = whole_until_then.chain(futures::stream::iter([broken]));
    ObjectStream { meta, body: body.boxed() }
}

fn flip_bit(stream: ObjectStream, at: u64) -> ObjectStream {
    let ObjectStream { meta, body } = stream;
    let body = body.scan(0_u64, move |passed, chunk| {
        let start = *passed;
        let chunk = chunk.map(|chunk| {
            *passed += chunk.len() as u64;
            match at.checked_sub(start).and_then(|index| usize::try_from(index).ok()) {
                Some(index) if index < chunk.len() => {
                    let mut flipped = chunk.to_vec();
                    flipped[index] ^= 1;
                    Bytes::from(flipped)
                }
                Some(_) | None => chunk,
            }
        });
        std::future::ready(Some(chunk))
    });
    ObjectStream { meta, body: body.boxed() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::probe::{Creation, create_once};
    use crate::retry::{RetryPolicy, retry};
    use tokio_util::sync::CancellationToken;

    fn key() -> ObjectKey {
        ObjectKey::parse("uid/manifest.json").unwrap()
    }

    fn lost() -> StoreError {
        unavailable("memory", "connection reset by peer")
    }

    #[tokio::test]
    async fn without_a_script_it_keeps_the_promises() {
        crate::conformance::run(&FaultyStore::new(MemoryStore::new())).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_whose_answer_was_lost_is_recognised_as_ours() {
        let store = FaultyStore::new(MemoryStore::new());
        store.plan_next(Operation::Put, Fault::LandThenFail(lost()));
        let (key, body) = (key(), Bytes::from_static(b"signed"));
        let made = retry("creating", RetryPolicy::until(Duration::from_secs(30)), &CancellationToken::new(), || {
            create_once(&store, &key, body.clone())
        })
        .await;
        assert_eq!(made, Ok(Creation::AlreadySame));
        let other = create_once(&store, &key, Bytes::from_static(b"other!")).await;
        assert!(matches!(other, Err(StoreError::AlreadyExists { .. })), "{other:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_whose_answer_was_lost_can_be_repeated() {
        let store = FaultyStore::new(MemoryStore::new());
        store.plan_next(Operation::Complete, Fault::LandThenFail(lost()));
        let upload = store.begin_upload(&key()).await.unwrap();
        let part = Part { number: 1, offset: 0, body: Bytes::from_static(b"all") };
        let receipt = upload.put_part(part).await.unwrap();
        let done = retry("completing", RetryPolicy::until(Duration::from_secs(30)), &CancellationToken::new(), || {
            upload.complete(vec![receipt.clone()])
        })
        .await
        .unwrap();
        assert_eq!(done.size, 3);
        assert_eq!(store.calls(Operation::Complete), 2);
    }

    #[tokio::test]
    async fn bodies_break_and_bits_flip_where_told() {
        let store = FaultyStore::new(MemoryStore::new());
        store.put(&key(), Bytes::from_static(b"abcdef"), PutMode::Overwrite).await.unwrap();
        store.plan_next(Operation::Get, Fault::FlipBit(2));
        assert_eq!(store.get_small(&key(), 10).await.unwrap(), Bytes::from_static(b"abbdef"));
        store.plan_next(Operation::Get, Fault::BreakBodyAfter(4));
        let error = store.get_small(&key(), 10).await.unwrap_err();
        assert!(error.is_worth_retrying(), "{error}");
    }

    #[tokio::test]
    async fn a_store_that_is_down_stays_down_until_told() {
        let store = FaultyStore::new(MemoryStore::new());
        store.set_down(true);
        assert!(store.head(&key()).await.unwrap_err().is_worth_retrying());
        store.set_down(false);
        assert!(matches!(store.head(&key()).await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.calls(Operation::Head), 2);
    }
}
