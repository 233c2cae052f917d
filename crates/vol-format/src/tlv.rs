//! Tagged fields: how the body of an object is written, so that fields can be added without moving others.
//!
//! A field is `tag u16, length u32, bytes`. Fields stand in ascending order of their tags, each at most once (FMT-21).
//! An unknown field is refused, so that a release that does not know it can never drop it by writing the object anew.
//! Only a reader that is not going to write (feature word `ro_compat`) may skip one, and only if its tag says so (FMT-22).

use vol_types::Name;

use crate::feature::Access;
use crate::payload::{EncodeError, Malformed};

/// Tags from here on may be skipped by a reader that does not write.
pub const SKIPPABLE_TAG: u16 = 0x8000;
/// Bytes before a field's value.
pub const FIELD_HEADER_LEN: usize = 6;
/// Longest string in an object, in bytes: Linux' longest path (`linux/limits.h`, `PATH_MAX`).
pub const STRING_MAX: usize = 4096;

/// The number of a field, and its name for messages and the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub number: u16,
    /// `volume size`
    pub name: &'static str,
}

/// A cursor over bytes that were read from a disk.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// What is being read, for the error.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }
    pub const fn malformed(&self) -> Malformed {
        Malformed { what: self.what }
    }
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
    /// A length that was written as u32.
    pub fn len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u32()?).map_err(|_| self.malformed())
    }
    /// Unused bytes are zero (FMT-2).
    pub fn zeros<const N: usize>(&mut self) -> Result<(), Malformed> {
        if self.array::<N>()? == [0; N] { Ok(()) } else { Err(self.malformed()) }
    }
    pub const fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// Appends the fields of one object; the caller does so in ascending order of the tags.
pub(crate) struct Body<'a> {
    pub out: &'a mut Vec<u8>,
}

impl Body<'_> {
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) -> Result<(), EncodeError> {
        let too_long = || EncodeError::FieldTooLong { what: tag.name, len: value.len() };
        let len = u32::try_from(value.len()).map_err(|_| too_long())?;
        self.out.extend_from_slice(&tag.number.to_le_bytes());
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(value);
        Ok(())
    }
    pub fn string(&mut self, tag: Tag, value: &str) -> Result<(), EncodeError> {
        if value.len() > STRING_MAX {
            return Err(EncodeError::FieldTooLong { what: tag.name, len: value.len() });
        }
        self.bytes(tag, value.as_bytes())
    }
    pub fn u8(&mut self, tag: Tag, value: u8) -> Result<(), EncodeError> {
        self.bytes(tag, &[value])
    }
    pub fn u16(&mut self, tag: Tag, value: u16) -> Result<(), EncodeError> {
        self.bytes(tag, &value.to_le_bytes())
    }
    pub fn u32(&mut self, tag: Tag, value: u32) -> Result<(), EncodeError> {
        self.bytes(tag, &value.to_le_bytes())
    }
    pub fn u64(&mut self, tag: Tag, value: u64) -> Result<(), EncodeError> {
        self.bytes(tag, &value.to_le_bytes())
    }
}

/// Takes the fields of one object in ascending order of the tags.
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
    /// The next field, if it was read and not yet asked for.
    next: Option<(u16, &'a [u8])>,
    last_tag: Option<u16>,
    access: Access,
}

impl<'a> Fields<'a> {
    pub fn new(body: &'a [u8], what: &'static str, access: Access) -> Result<Self, Malformed> {
        let mut fields = Self { reader: Reader::new(body, what), next: None, last_tag: None, access };
        fields.advance()?;
        Ok(fields)
    }

    fn advance(&mut self) -> Result<(), Malformed> {
        self.next = None;
        if !self.reader.is_empty() {
            let tag = self.reader.u16()?;
            let len = self.reader.len()?;
            let value = self.reader.take(len)?;
            if self.last_tag.is_some_and(|last| last >= tag) {
                return Err(self.reader.malformed());
            }
            self.last_tag = Some(tag);
            self.next = Some((tag, value));
        }
        Ok(())
    }

    pub fn optional(&mut self, tag: Tag) -> Result<Option<Reader<'a>>, Malformed> {
        match self.next {
            Some((number, value)) if number == tag.number => {
                self.advance()?;
                Ok(Some(Reader::new(value, tag.name)))
            }
            _ => Ok(None),
        }
    }

    /// A field that is left out when it has its usual value; that value written out is refused (FMT-20).
    pub fn unless_usual<T: PartialEq>(
        &mut self,
        tag: Tag,
        usual: T,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let Some(mut value) = self.optional(tag)? else { return Ok(usual) };
        let found = read(&mut value)?;
        value.end()?;
        if found == usual { Err(value.malformed()) } else { Ok(found) }
    }

    pub fn required(&mut self, tag: Tag) -> Result<Reader<'a>, Malformed> {
        self.optional(tag)?.ok_or(Malformed { what: tag.name })
    }

    /// A field of exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, tag: Tag) -> Result<[u8; N], Malformed> {
        let mut value = self.required(tag)?;
        let array = value.array()?;
        value.end()?;
        Ok(array)
    }
    pub fn u8(&mut self, tag: Tag) -> Result<u8, Malformed> {
        self.array(tag).map(u8::from_le_bytes)
    }
    pub fn u16(&mut self, tag: Tag) -> Result<u16, Malformed> {
        self.array(tag).map(u16::from_le_bytes)
    }
    pub fn u32(&mut self, tag: Tag) -> Result<u32, Malformed> {
        self.array(tag).map(u32::from_le_bytes)
    }
    pub fn u64(&mut self, tag: Tag) -> Result<u64, Malformed> {
        self.array(tag).map(u64::from_le_bytes)
    }
    pub fn name(&mut self, tag: Tag) -> Result<Name, Malformed> {
        name(&self.required(tag)?)
    }

    /// What is left must be nothing, or what this reader may skip.
    pub fn end(mut self) -> Result<(), Malformed> {
        while let Some((tag, _)) = self.next {
            if tag < SKIPPABLE_TAG || self.access != Access::ReadOnly {
                return Err(self.reader.malformed());
            }
            self.advance()?;
        }
        Ok(())
    }
}

/// The rest of a field as a valid name.
pub(crate) fn name(value: &Reader<'_>) -> Result<Name, Malformed> {
    let text = str::from_utf8(value.rest()).map_err(|_| value.malformed())?;
    Name::new(text).map_err(|_| value.malformed())
}

/// The rest of a field as text.
pub(crate) fn string(value: &Reader<'_>) -> Result<String, Malformed> {
    let text = str::from_utf8(value.rest()).map_err(|_| value.malformed())?;
    if text.len() > STRING_MAX { Err(value.malformed()) } else { Ok(text.to_owned()) }
}
