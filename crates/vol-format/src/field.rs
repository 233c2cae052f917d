//! Fields at fixed places of a 4096-byte block. Place and size are part of the type: that a field lies inside its block
//! is proven when the code is compiled, so reading or writing one cannot fail. All integers are little-endian.

use crate::layout::BLOCK;

/// A field of `SIZE` bytes at byte `OFFSET` of a block.
#[derive(Clone, Copy, Debug)]
pub struct Field<const OFFSET: usize, const SIZE: usize>;

/// A row of a byte map, as the specification shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub offset: usize,
    pub size: usize,
}

impl<const OFFSET: usize, const SIZE: usize> Field<OFFSET, SIZE> {
    const INSIDE: () = assert!(OFFSET + SIZE <= BLOCK, "a field must lie inside its block");

    pub(crate) fn get(self, block: &[u8; BLOCK]) -> [u8; SIZE] {
        let () = Self::INSIDE;
        let bytes = block.get(OFFSET..).and_then(|rest| rest.first_chunk::<SIZE>());
        bytes.copied().unwrap_or([0; SIZE])
    }

    pub(crate) fn put(self, block: &mut [u8; BLOCK], bytes: [u8; SIZE]) {
        let () = Self::INSIDE;
        if let Some(place) = block.get_mut(OFFSET..).and_then(|rest| rest.first_chunk_mut::<SIZE>()) {
            *place = bytes;
        }
    }

    pub(crate) const fn row(self, name: &'static str) -> Row {
        Row { name, offset: OFFSET, size: SIZE }
    }
}

macro_rules! integers {
    ($($int:ident, $size:literal, $get:ident, $put:ident;)*) => {$(
        impl<const OFFSET: usize> Field<OFFSET, $size> {
            #[allow(dead_code)]
            pub(crate) fn $get(self, block: &[u8; BLOCK]) -> $int {
                $int::from_le_bytes(self.get(block))
            }
            #[allow(dead_code)]
            pub(crate) fn $put(self, block: &mut [u8; BLOCK], value: $int) {
                self.put(block, value.to_le_bytes());
            }
        }
    )*};
}

integers! {
    u16, 2, u16, put_u16;
    u32, 4, u32, put_u32;
    u64, 8, u64, put_u64;
}

/// Declares the fields of a byte map as constants, and the map itself as a table for the test that compares it with the
/// specification. The fields must follow each other without holes from `$start` to `$end`: checked when compiled.
macro_rules! byte_map {
    ($(#[$doc:meta])* $table:ident, $start:literal .. $end:ident = $end_value:literal;
     $($name:ident at $offset:literal, $size:literal;)*) => {
        $(pub const $name: $crate::field::Field<$offset, $size> = $crate::field::Field;)*
        /// Where the fields end.
        pub const $end: usize = $end_value;
        $(#[$doc])*
        pub const $table: &[$crate::field::Row] = &[$($name.row(stringify!($name))),*];
        const _: () = assert!($crate::field::without_holes($table, $start, $end), "a byte map must have no holes");
    };
}
pub(crate) use byte_map;

/// Whether the rows follow each other without holes and overlaps from `start` to `end`.
pub(crate) const fn without_holes(mut rows: &[Row], start: usize, end: usize) -> bool {
    let mut next = start;
    while let Some((row, rest)) = rows.split_first() {
        if row.offset != next {
            return false;
        }
        next = next.saturating_add(row.size);
        rows = rest;
    }
    next == end
}
