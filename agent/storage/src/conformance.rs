//! One suite of behaviour for every backend: what [`ObjectStore`] promises, tried out. Tests run it against memory,
//! directories and a real S3 server; it works on keys of its own below a random prefix and removes them. I/O only through
//! the store.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures::StreamExt as _;

use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::probe::{Creation, create_once, probe_conditional_create};
use crate::store::{ListRequest, ObjectStore, PutMode};
use crate::upload::Part;

/// S3's least size of a part that is not the last.
const PART_BYTES: usize = 5 * 1024 * 1024;
/// More than one page of any store.
const MANY: usize = 1030;
const AT_ONCE: usize = 16;

/// A promise that a store did not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{promise}: {words}")]
pub struct BrokenPromise {
    /// The promise, as a sentence.
    pub promise: &'static str,
    /// What happened instead.
    pub words: String,
}

type Outcome = Result<(), String>;
type Check<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Tries every promise in turn.
///
/// # Errors
/// The first promise that does not hold.
pub async fn run(store: &dyn ObjectStore) -> Result<(), BrokenPromise> {
    let home = format!("conformance-{:016x}", rand::random::<u64>());
    let room = Room { store, home };
    let checks: [(&'static str, Check<'_>); 11] = [
        ("what was put can be read whole, from an offset, and by its metadata", Box::pin(room.check_round_trip())),
        ("what is not there is NotFound, and deleting it succeeds", Box::pin(room.check_absence())),
        ("overwriting replaces the object and its etag", Box::pin(room.check_overwrite())),
        ("a conditional create never replaces", Box::pin(room.check_create_new())),
        ("a conditional create has one winner among many", Box::pin(room.check_one_winner())),
        ("a bounded read refuses more than its bound", Box::pin(room.check_bounded_read())),
        ("parts in any order make one object, seen only when complete", Box::pin(room.check_upload())),
        ("parts that do not tile make no object", Box::pin(room.check_untiled_upload())),
        ("an aborted upload leaves nothing", Box::pin(room.check_abort())),
        ("listings are in byte order, filtered and grouped", Box::pin(room.check_listing())),
        ("long listings come page by page without gap or repetition", Box::pin(room.check_paging())),
    ];
    for (promise, check) in checks {
        check.await.map_err(|words| BrokenPromise { promise, words })?;
    }
    room.clear().await.map_err(|words| BrokenPromise { promise: "everything can be deleted", words })
}

struct Room<'a> {
    store: &'a dyn ObjectStore,
    home: String,
}

fn told(what: &str) -> impl Fn(StoreError) -> String + '_ {
    move |error| format!("{what}: {error} ({:?})", error.class())
}

fn require(holds: bool, words: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(words()) }
}

/// Bytes that differ everywhere, so that misplaced pieces show.
fn pattern(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

impl Room<'_> {
    fn key(&self, name: &str) -> Result<ObjectKey, String> {
        ObjectKey::parse(format!("{}/{name}", self.home)).map_err(|error| error.to_string())
    }

    async fn put(&self, name: &str, body: Bytes) -> Result<ObjectKey, String> {
        let key = self.key(name)?;
        self.store.put(&key, body, PutMode::Overwrite).await.map_err(told("put"))?;
        Ok(key)
    }

    async fn read_from(&self, key: &ObjectKey, offset: u64) -> Result<Vec<u8>, String> {
        let mut stream = self.store.get_from(key, offset).await.map_err(told("get"))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.body.next().await {
            bytes.extend_from_slice(&chunk.map_err(told("reading the body"))?);
        }
        Ok(bytes)
    }

    async fn check_round_trip(&self) -> Outcome {
        for (name, body) in [
            ("plain", pattern(300_000, 1)),
            ("empty", Bytes::new()),
            ("deep/er/and deeper/ü+%25&=?#.json", pattern(9, 2)),
        ] {
            let key = self.put(name, body.clone()).await?;
            let meta = self.store.head(&key).await.map_err(told("head"))?;
            require(meta.size == body.len() as u64, || format!("head says {meta:?} of {} bytes", body.len()))?;
            let stream = self.store.get(&key).await.map_err(told("get"))?;
            require(stream.meta.size == meta.size && stream.meta.etag == meta.etag, || {
                format!("get says {:?}, head says {meta:?}", stream.meta)
            })?;
            drop(stream);
            require(self.read_from(&key, 0).await? == body, || format!("{name} came back different"))?;
            let small = self.store.get_small(&key, body.len()).await.map_err(told("get_small"))?;
            require(small == body, || format!("{name} came back different from a bounded read"))?;
        }
        let key = self.key("plain")?;
        let body = pattern(300_000, 1);
        let stream = self.store.get_from(&key, 299_990).await.map_err(told("get from an offset"))?;
        require(stream.meta.size == 300_000, || format!("metadata of a part of the object: {:?}", stream.meta))?;
        drop(stream);
        require(self.read_from(&key, 299_990).await? == body[299_990..], || "the tail is different".to_owned())?;
        require(self.read_from(&key, 300_000).await?.is_empty(), || "bytes behind the end".to_owned())?;
        match self.store.get_from(&key, 300_001).await {
            Err(StoreError::Corrupt { .. }) => Ok(()),
            other => Err(format!("reading behind the end gave {other:?}")),
        }
    }

    async fn check_absence(&self) -> Outcome {
        let key = self.key("absent/one")?;
        for outcome in [
            self.store.head(&key).await.map(|_| ()),
            self.store.get(&key).await.map(|_| ()),
            self.store.get_small(&key, 10).await.map(|_| ()),
        ] {
            require(matches!(&outcome, Err(StoreError::NotFound { key: named, .. }) if *named == key), || {
                format!("reading nothing gave {outcome:?}")
            })?;
        }
        self.store.delete(&key).await.map_err(told("deleting nothing"))?;
        let key = self.put("absent/two", pattern(5, 3)).await?;
        self.store.delete(&key).await.map_err(told("delete"))?;
        self.store.delete(&key).await.map_err(told("deleting twice"))?;
        let after = self.store.head(&key).await;
        require(matches!(after, Err(StoreError::NotFound { .. })), || format!("after delete: {after:?}"))
    }

    async fn check_overwrite(&self) -> Outcome {
        let key = self.put("overwritten", pattern(10, 4)).await?;
        let before = self.store.head(&key).await.map_err(told("head"))?;
        self.put("overwritten", pattern(10, 5)).await?;
        let after = self.store.head(&key).await.map_err(told("head"))?;
        require(before.etag.is_some() && before.etag != after.etag, || format!("etags {before:?} then {after:?}"))?;
        require(self.read_from(&key, 0).await? == pattern(10, 5), || "the old content is still there".to_owned())
    }

    async fn check_create_new(&self) -> Outcome {
        let key = self.key("created")?;
        let body = pattern(20, 6);
        self.store.put(&key, body.clone(), PutMode::CreateNew).await.map_err(told("first create"))?;
        let second = self.store.put(&key, pattern(20, 7), PutMode::CreateNew).await;
        require(matches!(&second, Err(StoreError::AlreadyExists { key: named, .. }) if *named == key), || {
            format!("second create gave {second:?}")
        })?;
        require(self.read_from(&key, 0).await? == body, || "the second create changed the object".to_owned())?;
        let again = create_once(self.store, &key, body).await;
        require(again == Ok(Creation::AlreadySame), || format!("creating the same bytes gave {again:?}"))?;
        let probe = self.key("probe")?;
        let kept = probe_conditional_create(self.store, &probe).await.map_err(told("probe"))?;
        require(kept, || "the probe finds no conditional create".to_owned())
    }

    async fn check_one_winner(&self) -> Outcome {
        let key = self.key("contended")?;
        let racers = (0..8_u64).map(|seed| {
            let key = key.clone();
            async move { (seed, self.store.put(&key, pattern(40, seed), PutMode::CreateNew).await) }
        });
        let results = futures::future::join_all(racers).await;
        let winners: Vec<u64> = results.iter().filter(|(_, result)| result.is_ok()).map(|(seed, _)| *seed).collect();
        // A store may answer "conflict, try again" to losers; what none may do is let two of them win.
        let [winner] = winners[..] else { return Err(format!("winners {winners:?} of {results:?}")) };
        require(self.read_from(&key, 0).await? == pattern(40, winner), || "the loser's bytes are stored".to_owned())
    }

    async fn check_bounded_read(&self) -> Outcome {
        let key = self.put("bounded", pattern(1000, 8)).await?;
        let outcome = self.store.get_small(&key, 999).await;
        require(matches!(outcome, Err(StoreError::TooLarge { .. })), || format!("999 of 1000 bytes gave {outcome:?}"))
    }

    async fn check_upload(&self) -> Outcome {
        let key = self.key("uploads/three parts")?;
        // Growing parts, as the pipeline makes them for large databases.
        let whole = pattern(2 * PART_BYTES + 4096 + 12_345, 9);
        let cuts = [0, PART_BYTES, 2 * PART_BYTES + 4096, whole.len()];
        let upload = self.store.begin_upload(&key).await.map_err(told("begin"))?;
        let send = |number: u32, from: usize, to: usize| {
            upload.put_part(Part { number, offset: from as u64, body: whole.slice(from..to) })
        };
        let third = send(3, cuts[2], cuts[3]).await.map_err(told("part 3"))?;
        let (second, first) = futures::join!(send(2, cuts[1], cuts[2]), send(1, cuts[0], cuts[1]));
        let (second, first) = (second.map_err(told("part 2"))?, first.map_err(told("part 1"))?);
        let second_again = send(2, cuts[1], cuts[2]).await.map_err(told("part 2 again"))?;
        require(second_again.crc32 == second.crc32, || "the same part has two checksums".to_owned())?;

        let early = self.store.head(&key).await;
        require(matches!(early, Err(StoreError::NotFound { .. })), || format!("before complete: {early:?}"))?;
        let listed = self.store.list_all(&format!("{}/uploads", self.home), 100).await.map_err(told("list"))?;
        require(listed.is_empty(), || format!("listed before complete: {listed:?}"))?;
        let pending = self.store.list_uploads(&format!("{}/uploads", self.home)).await.map_err(told("list_uploads"))?;
        let is_listed = pending.iter().any(|p| p.key == key && p.upload_id == upload.pending().upload_id);
        require(is_listed, || format!("{:?} is not among {pending:?}", upload.pending()))?;

        let receipts = vec![third, first, second_again];
        let meta = upload.complete(receipts.clone()).await.map_err(told("complete"))?;
        require(meta.size == whole.len() as u64, || format!("complete says {meta:?}"))?;
        let head = self.store.head(&key).await.map_err(told("head"))?;
        require(head.size == meta.size && head.etag == meta.etag, || format!("head {head:?}, complete {meta:?}"))?;
        require(self.read_from(&key, 0).await? == whole, || "the object is not the sum of its parts".to_owned())?;
        let tail = self.read_from(&key, cuts[2] as u64 - 7).await?;
        require(tail == whole[cuts[2] - 7..], || "reading across a part's edge differs".to_owned())?;
        upload.complete(receipts).await.map_err(told("complete, repeated after its answer was lost"))?;
        let left = self.store.list_uploads(&self.home).await.map_err(told("list_uploads"))?;
        require(left.is_empty(), || format!("still pending after complete: {left:?}"))
    }

    async fn check_untiled_upload(&self) -> Outcome {
        let key = self.key("uploads/untiled")?;
        let upload = self.store.begin_upload(&key).await.map_err(told("begin"))?;
        let first = Part { number: 1, offset: 0, body: pattern(PART_BYTES, 10) };
        let first = upload.put_part(first).await.map_err(told("part 1"))?;
        let apart = Part { number: 2, offset: PART_BYTES as u64 + 1, body: pattern(10, 11) };
        let apart = upload.put_part(apart).await.map_err(told("part 2"))?;
        for receipts in [vec![], vec![first.clone(), first.clone()], vec![apart.clone()], vec![first, apart]] {
            let outcome = upload.complete(receipts.clone()).await;
            require(matches!(outcome, Err(StoreError::Corrupt { .. })), || format!("{receipts:?} made {outcome:?}"))?;
        }
        upload.abort().await.map_err(told("abort"))?;
        let after = self.store.head(&key).await;
        require(matches!(after, Err(StoreError::NotFound { .. })), || format!("an object after all: {after:?}"))
    }

    async fn check_abort(&self) -> Outcome {
        let key = self.key("uploads/aborted")?;
        for from_elsewhere in [false, true] {
            let upload = self.store.begin_upload(&key).await.map_err(told("begin"))?;
            let part = Part { number: 1, offset: 0, body: pattern(100, 12) };
            let receipt = upload.put_part(part).await.map_err(told("part"))?;
            if from_elsewhere {
                self.store.abort_upload(&upload.pending()).await.map_err(told("abort from elsewhere"))?;
                self.store.abort_upload(&upload.pending()).await.map_err(told("abort from elsewhere, twice"))?;
            }
            upload.abort().await.map_err(told("abort"))?;
            upload.abort().await.map_err(told("abort twice"))?;
            let outcome = upload.complete(vec![receipt]).await;
            require(outcome.is_err(), || format!("completing an aborted upload gave {outcome:?}"))?;
        }
        let pending = self.store.list_uploads(&self.home).await.map_err(told("list_uploads"))?;
        require(pending.is_empty(), || format!("left over: {pending:?}"))?;
        let after = self.store.head(&key).await;
        require(matches!(after, Err(StoreError::NotFound { .. })), || format!("an object after abort: {after:?}"))
    }

    async fn check_listing(&self) -> Outcome {
        // "a-b" sorts before "a/…" and "a0" after: the order of bytes of whole keys, not of directories.
        let names = ["a-b", "a/1", "a/2/x", "a/2/y", "a0", "b"];
        for name in names {
            self.put(&format!("list/{name}"), pattern(name.len(), 13)).await?;
        }
        let base = format!("{}/list/", self.home);
        let all = self.store.list_all(&base, 100).await.map_err(told("list"))?;
        let found: Vec<&str> = all.iter().filter_map(|o| o.key.as_str().strip_prefix(&base)).collect();
        require(found == names, || format!("all: {found:?}"))?;
        let sizes_fit = all.iter().zip(names).all(|(object, name)| object.size == name.len() as u64);
        require(sizes_fit && all.iter().all(|object| object.last_modified.is_some()), || format!("{all:?}"))?;

        // Prefix, start after, delimiter; objects, common prefixes.
        type Case = (&'static str, Option<&'static str>, bool, &'static [&'static str], &'static [&'static str]);
        let cases: [Case; 7] = [
            ("", None, true, &["a-b", "a0", "b"], &["a/"]),
            ("a", None, false, &["a-b", "a/1", "a/2/x", "a/2/y", "a0"], &[]),
            ("a/", None, true, &["a/1"], &["a/2/"]),
            ("a/2", None, true, &[], &["a/2/"]),
            ("", Some("a/2/x"), false, &["a/2/y", "a0", "b"], &[]),
            ("", Some("a/3"), true, &["a0", "b"], &[]),
            ("zzz", None, false, &[], &[]),
        ];
        for (prefix, after, delimiter, objects, prefixes) in cases {
            let request = ListRequest {
                prefix: format!("{base}{prefix}"),
                start_after: after.map(|after| format!("{base}{after}")),
                delimiter,
                cursor: None,
            };
            let page = self.store.list(&request).await.map_err(told("list"))?;
            let found: Vec<&str> = page.objects.iter().filter_map(|o| o.key.as_str().strip_prefix(&base)).collect();
            let groups: Vec<&str> = page.prefixes.iter().filter_map(|p| p.strip_prefix(&base)).collect();
            require(found == objects && groups == prefixes && page.next.is_none(), || {
                format!("{request:?}: {page:?}")
            })?;
        }
        Ok(())
    }

    async fn check_paging(&self) -> Outcome {
        let names: Vec<String> = (0..MANY).map(|n| format!("many/{n:05}/manifest.json")).collect();
        let puts: Vec<_> = names.iter().map(|name| self.put(name, Bytes::from_static(b"{}"))).collect();
        let made: Vec<Result<ObjectKey, String>> = futures::stream::iter(puts).buffered(AT_ONCE).collect().await;
        let keys = made.into_iter().collect::<Result<Vec<ObjectKey>, String>>()?;
        let base = format!("{}/many/", self.home);
        let listed = self.store.list_all(&base, MANY).await.map_err(told("list"))?;
        let is_whole = listed.iter().map(|object| &object.key).eq(keys.iter());
        require(is_whole, || format!("{} keys were put, {} listed, or in another order", MANY, listed.len()))?;
        let too_many = self.store.list_all(&base, MANY - 1).await;
        require(matches!(too_many, Err(StoreError::TooLarge { .. })), || "a listing passed its bound".to_owned())?;

        let mut request = ListRequest { delimiter: true, ..ListRequest::under(base.clone()) };
        let (mut groups, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.store.list(&request).await.map_err(told("list groups"))?;
            pages += 1;
            require(page.objects.len() + page.prefixes.len() <= 1000, || "a page of more than 1000".to_owned())?;
            groups.extend(page.prefixes);
            let Some(next) = page.next else { break };
            request.cursor = Some(next);
        }
        let expected: Vec<String> = (0..MANY).map(|n| format!("{base}{n:05}/")).collect();
        require(groups == expected && pages > 1, || format!("{} groups on {pages} pages", groups.len()))
    }

    async fn clear(&self) -> Outcome {
        let all = self.store.list_all(&self.home, 10_000).await.map_err(told("list"))?;
        let deletes: Vec<_> = all.iter().map(|object| self.store.delete(&object.key)).collect();
        let results: Vec<_> = futures::stream::iter(deletes).buffer_unordered(AT_ONCE).collect().await;
        for result in results {
            result.map_err(told("delete"))?;
        }
        let left = self.store.list_all(&self.home, 10_000).await.map_err(told("list"))?;
        require(left.is_empty(), || format!("{} objects are still listed", left.len()))
    }
}
