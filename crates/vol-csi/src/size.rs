//! How large a volume is to be.

use vol_types::Bytes;

use crate::Refused;
use crate::csi::CapacityRange;

/// What a request says of the size: at least so much, at most so much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Zero: not said.
    pub required: u64,
    /// Zero: not said.
    pub limit: u64,
}

impl Range {
    /// Reads it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a negative size, `OUT_OF_RANGE` if the limit lies below what is required.
    pub fn read(range: Option<&CapacityRange>) -> Result<Self, Refused> {
        let Some(range) = range else { return Ok(Self::default()) };
        let positive = |field: &str, bytes: i64| {
            u64::try_from(bytes).map_err(|_| Refused::invalid(format!("capacity_range.{field} is negative: {bytes}")))
        };
        let read = Self {
            required: positive("required_bytes", range.required_bytes)?,
            limit: positive("limit_bytes", range.limit_bytes)?,
        };
        if read.limit > 0 && read.required > read.limit {
            return Err(Refused::out_of_range(format!(
                "capacity_range asks for at least {} and at most {}",
                Bytes(read.required),
                Bytes(read.limit)
            )));
        }
        Ok(read)
    }

    /// Whether a size is in it.
    pub const fn has(self, size: u64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }

    /// A size in it that is a multiple of `grain`: what is required, else `usual`.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`: there is none.
    pub fn choose(self, usual: Bytes, grain: u64) -> Result<Bytes, Refused> {
        let grain = grain.max(1);
        let none = || {
            Refused::out_of_range(format!(
                "no size of whole {} lies between {} and {}",
                Bytes(grain),
                Bytes(self.required),
                Bytes(self.limit)
            ))
        };
        let mut size = if self.required > 0 { self.required } else { usual.get() };
        if self.required == 0 && self.limit > 0 && size > self.limit {
            size = self.limit / grain * grain;
        }
        let size = size.checked_next_multiple_of(grain).ok_or_else(none)?;
        if size == 0 || !self.has(size) || i64::try_from(size).is_err() { Err(none()) } else { Ok(Bytes(size)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB64: u64 = 64 << 10;

    fn range(required: i64, limit: i64) -> Result<Range, Refused> {
        Range::read(Some(&CapacityRange { required_bytes: required, limit_bytes: limit }))
    }

    #[test]
    fn what_is_asked_for_is_what_is_given_or_the_next_that_is_possible() {
        let gib10 = 10 << 30;
        let usual = Bytes::gib(1);
        for (required, limit, size) in [
            (gib10, gib10, gib10),
            (gib10, 0, gib10),
            (gib10 + 1, 0, gib10 + KIB64 as i64),
            (0, 0, 1 << 30),
            (0, gib10, 1 << 30),
            (0, (1 << 20) + 5, 1 << 20),
            (1, 0, KIB64 as i64),
        ] {
            assert_eq!(range(required, limit).unwrap().choose(usual, KIB64).unwrap().get(), size as u64);
        }
        for (required, limit) in [(gib10 + 1, gib10 + 1), (1, 1), (0, 1), (i64::MAX, 0)] {
            let refused = range(required, limit).unwrap().choose(usual, KIB64).unwrap_err();
            assert_eq!(refused.code, tonic::Code::OutOfRange, "{required} {limit}");
        }
        assert_eq!(range(2, 1).unwrap_err().code, tonic::Code::OutOfRange);
        for (required, limit) in [(-1, 0), (0, -1)] {
            assert_eq!(range(required, limit).unwrap_err().code, tonic::Code::InvalidArgument);
        }
    }
}
