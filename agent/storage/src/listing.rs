//! Builds one page of a listing from names offered in byte order, with S3's rules for prefixes, delimiters and cursors.
//! Shared by the backends that hold names themselves. Pure; no I/O.

use std::ops::ControlFlow;

use jiff::Timestamp;

use crate::key::ObjectKey;
use crate::store::{ListCursor, ListPage, ListRequest, ListedObject};

/// Entries of one page, as with S3.
pub(crate) const PAGE_ENTRIES: usize = 1000;

/// A page in the making.
#[derive(Debug)]
pub(crate) struct PageBuilder<'a> {
    request: &'a ListRequest,
    /// The last entry of the page before: a key, or a common prefix (ends in `/`, which no key does).
    resumed_at: Option<&'a str>,
    page: ListPage,
    last_entry: Option<String>,
}

impl<'a> PageBuilder<'a> {
    pub(crate) fn new(request: &'a ListRequest) -> Self {
        let resumed_at = request.cursor.as_ref().map(|ListCursor(last)| last.as_str());
        Self { request, resumed_at, page: ListPage::default(), last_entry: None }
    }

    /// Whether any name below `directory` (which ends in `/`) could still belong on this page.
    pub(crate) fn may_hold(&self, directory: &str) -> bool {
        let prefix = self.request.prefix.as_str();
        let relevant = directory.starts_with(prefix) || prefix.starts_with(directory);
        let passed = |mark: &str| directory < mark && !mark.starts_with(directory);
        let collapsed = |entry: &str| entry.ends_with('/') && directory.starts_with(entry);
        relevant
            && !self.request.start_after.as_deref().is_some_and(passed)
            && !self.resumed_at.is_some_and(|mark| passed(mark) || collapsed(mark))
            && !self.last_entry.as_deref().is_some_and(collapsed)
    }

    /// Takes the next name in byte order. `read_meta` is asked only for names that are listed; `None` skips the name
    /// (deleted meanwhile). `Break` when the page is full or nothing further can match.
    pub(crate) fn offer<E>(
        &mut self,
        key: &ObjectKey,
        read_meta: impl FnOnce() -> Result<Option<(u64, Option<Timestamp>)>, E>,
    ) -> Result<ControlFlow<()>, E> {
        let name = key.as_str();
        let prefix = self.request.prefix.as_str();
        let Some(rest) = name.strip_prefix(prefix) else {
            return Ok(if name < prefix { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
        };
        let is_behind = |mark: &str| name <= mark || (mark.ends_with('/') && name.starts_with(mark));
        if self.request.start_after.as_deref().is_some_and(|mark| name <= mark)
            || self.resumed_at.is_some_and(is_behind)
            || self.last_entry.as_deref().is_some_and(is_behind)
        {
            return Ok(ControlFlow::Continue(()));
        }
        if self.page.objects.len() + self.page.prefixes.len() == PAGE_ENTRIES {
            self.page.next = self.last_entry.clone().map(ListCursor);
            return Ok(ControlFlow::Break(()));
        }
        if self.request.delimiter
            && let Some((group, _)) = rest.split_once('/')
        {
            let entry = format!("{prefix}{group}/");
            self.page.prefixes.push(entry.clone());
            self.last_entry = Some(entry);
            return Ok(ControlFlow::Continue(()));
        }
        if let Some((size, last_modified)) = read_meta()? {
            self.page.objects.push(ListedObject { key: key.clone(), size, last_modified });
            self.last_entry = Some(name.to_owned());
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Counts a name that is no object key.
    pub(crate) fn count_foreign(&mut self) {
        self.page.foreign += 1;
    }

    pub(crate) fn finish(self) -> ListPage {
        self.page
    }
}
