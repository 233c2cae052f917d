//! A long list on its way into an answer.

use std::borrow::Cow;
use std::cell::Cell;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::{Error as _, SerializeSeq as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use vol_api::{VolumeInfo, VolumeList};

/// Shows each row to whoever is given, one after the other, for as long as that says so.
type Show = dyn FnOnce(&mut dyn FnMut(&VolumeInfo) -> bool) + Send;

/// The volumes of [`VolumeList`], and the same on the wire, without the list: one record is shown after the other, each in the place of the
/// one before, so that a hundred thousand take the memory of their text alone. It is written once.
pub struct VolumeRows(Cell<Option<Box<Show>>>);

impl VolumeRows {
    /// `show` is called when the rows are written.
    pub fn new(show: impl FnOnce(&mut dyn FnMut(&VolumeInfo) -> bool) + Send + 'static) -> Self {
        Self(Cell::new(Some(Box::new(show))))
    }

    /// Calls `take` for each row until it says `false`; not at all if the rows were shown before.
    pub fn each(&self, take: &mut dyn FnMut(&VolumeInfo) -> bool) {
        if let Some(show) = self.0.take() {
            show(take);
        }
    }
}

struct Seq<'a>(&'a VolumeRows);

impl Serialize for Seq<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(show) = self.0.0.take() else { return Err(S::Error::custom("the rows were written before")) };
        let mut seq = serializer.serialize_seq(None)?;
        let mut written = Ok(());
        show(&mut |row| {
            written = seq.serialize_element(row);
            written.is_ok()
        });
        written.and_then(|()| seq.end())
    }
}

impl Serialize for VolumeRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_struct("VolumeList", 1)?;
        list.serialize_field("volumes", &Seq(self))?;
        list.end()
    }
}

/// That of the list.
impl JsonSchema for VolumeRows {
    fn inline_schema() -> bool {
        VolumeList::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        VolumeList::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        VolumeList::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        VolumeList::json_schema(generator)
    }
}
