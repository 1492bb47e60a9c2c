//! Lists, page by page.

use std::collections::VecDeque;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::call::{Call, parameters};
use super::client::Client;
use super::error::Error;
use super::operation::{Operation, Place};

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// Where the next page begins; none after the last one.
    pub next_cursor: Option<String>,
}

/// A list that is read as far as it is wanted.
pub struct Pages<T> {
    client: Client,
    operation: Operation,
    places: Vec<String>,
    /// The filter as parameters; that it cannot be one is told when the first page is read.
    query: Result<Vec<(String, String)>, String>,
    cursor: Option<String>,
    is_over: bool,
    read: VecDeque<T>,
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pages")
            .field("operation", &self.operation)
            .field("query", &self.query)
            .field("cursor", &self.cursor)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Pages<T> {
    pub(crate) fn of(
        client: &Client,
        operation: Operation,
        places: &[Place<'_>],
        filter: &impl Serialize,
    ) -> Self {
        Self {
            client: client.clone(),
            operation,
            places: places.iter().map(ToString::to_string).collect(),
            query: parameters(filter).map_err(|error| error.to_string()),
            cursor: None,
            is_over: false,
            read: VecDeque::new(),
        }
    }

    /// Begins after a page that was read before, by its `next_cursor`.
    #[must_use]
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// The next page; nothing after the last one. A page with filters may be empty and have a
    /// successor.
    pub async fn next_page(&mut self) -> Result<Option<Page<T>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let mut query = self.query.clone().map_err(Error::Unusable)?;
        if let Some(cursor) = &self.cursor {
            query.push(("cursor".to_owned(), cursor.clone()));
        }
        let places: Vec<Place<'_>> = self.places.iter().map(|place| place as Place<'_>).collect();
        let call = Call::new(&self.client, self.operation, &places)?.query(query);
        let page: Page<T> = self.client.send(call).await?;
        self.is_over = page.next_cursor.is_none();
        self.cursor.clone_from(&page.next_cursor);
        Ok(Some(page))
    }

    /// The next entry; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                return Ok(Some(entry));
            }
            match self.next_page().await? {
                Some(page) => self.read = page.data.into(),
                None => return Ok(None),
            }
        }
    }

    /// All entries, but no more than so many.
    pub async fn up_to(mut self, most: usize) -> Result<Vec<T>, Error> {
        let mut entries = Vec::new();
        while entries.len() < most {
            match self.next().await? {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        Ok(entries)
    }
}
