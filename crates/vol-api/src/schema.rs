//! What texts and maps of requests and answers look like, for the schemas of the types that hold them.
//!
//! The types here are never made: fields name them as `#[schemars(with = "…")]`. A pattern takes everything that the daemon takes; what
//! it takes the daemon may still refuse, for reasons that no pattern can tell (`0G` is a size by its looks).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use vol_types::label::{LABEL_KEY_MAX, LABEL_VALUE_MAX, LABELS_MAX};
use vol_types::name::NAME_MAX;

/// A number with a unit or without.
macro_rules! size {
    () => {
        r"[0-9]+(\.[0-9]+)?\s*([KMGTPEkmgtpe]([iI][bB]?|[bB])?|[bB])?"
    };
}
/// A share of what is free.
macro_rules! share {
    () => {
        "[0-9]+%[Ff][Rr][Ee][Ee]"
    };
}

macro_rules! schemas {
    ($($(#[doc = $doc:literal])+ $name:ident { $($schema:tt)* })*) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "description": concat!($($doc),+).trim(), $($schema)* })
            }
        }
    )*};
}

schemas! {
    /// The name of a VG, pool, volume or snapshot.
    Name {
        "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "minLength": 1, "maxLength": NAME_MAX,
    }
    /// The id of an object, which it keeps for life.
    Id { "type": "string", "format": "uuid" }
    /// A container engine.
    Runtime { "type": "string", "enum": ["docker", "podman"] }
    /// A time in UTC.
    Time { "type": "string", "format": "date-time" }
    /// An absolute path on the host.
    AbsolutePath { "type": "string", "pattern": r"^/[^\u0000]*$" }
    /// The id of a PV, or the absolute path of its disk or backing file.
    PvRef { "type": "string", "minLength": 1 }
    /// A size above zero: a number and a unit. K, M, G, T, P and E are powers of 1024, KB, MB and so on powers of 1000.
    Size { "type": "string", "pattern": concat!(r"^\s*", size!(), r"\s*$"), "examples": ["10G", "512MiB", "1.5T"] }
    /// A size, or a share of the VG's free space: 1 to 100 percent.
    SizeOrShare {
        "type": "string", "pattern": concat!(r"^\s*(", size!(), "|", share!(), r")\s*$"), "examples": ["40G", "80%FREE"],
    }
    /// A new size, or with a `+` before it so much more.
    NewSize { "type": "string", "pattern": concat!(r"^\s*(\+\s*)?", size!(), r"\s*$"), "examples": ["40G", "+10G"] }
    /// As [`NewSize`], or a share of the VG's free space: 1 to 100 percent of it more.
    NewSizeOrShare {
        "type": "string", "pattern": concat!(r"^\s*(\+\s*)?(", size!(), "|", share!(), r")\s*$"),
        "examples": ["40G", "+10G", "50%FREE"],
    }
    /// What is set aside for a volume in its pool: a size, `full` or `none`.
    Reserve {
        "type": "string", "pattern": concat!(r"^\s*(full|none|", size!(), r")\s*$"), "examples": ["full", "none", "10G"],
    }
    /// How far a pool grows by itself: `vg` (as far as the VG has space), `off`, or a size.
    GrowTo { "type": "string", "pattern": concat!(r"^\s*(vg|off|", size!(), r")\s*$"), "examples": ["vg", "off", "40G"] }
    /// What becomes of writes when a pool is full.
    WhenFull { "type": "string", "enum": ["queue", "error"] }
    /// A file system, or none for a raw block device.
    FileSystem { "type": "string", "enum": ["ext4", "xfs", "btrfs", "none"] }
    /// `UID` or `UID:GID`, as numbers.
    Owner { "type": "string", "pattern": "^[0-9]+(:[0-9]+)?$", "examples": ["1000:1000"] }
    /// Permissions: three or four octal digits.
    Mode { "type": "string", "pattern": "^[0-7]{3,4}$", "examples": ["0750"] }
    /// The key of a label.
    LabelKey { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._/-]*$", "minLength": 1, "maxLength": LABEL_KEY_MAX }
    /// Labels: values by key. A value has at most 255 bytes, and no control characters.
    Labels {
        "type": "object",
        "propertyNames": {
            "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._/-]*$", "minLength": 1, "maxLength": LABEL_KEY_MAX,
        },
        "additionalProperties": { "type": "string", "maxLength": LABEL_VALUE_MAX },
        "maxProperties": LABELS_MAX,
    }
    /// Which labels an object must have: `KEY=VALUE`, `KEY!=VALUE`, `KEY` or `!KEY`, several with commas between them.
    Selector { "type": "string", "minLength": 1, "examples": ["tier=fast,!old"] }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;
    use vol_types::{GrowSpec, Reserve as ReserveSpec, Selector as Selected, SizeSpec, parse_bytes, parse_growth};

    thread_local! {
        static PATTERNS: RefCell<BTreeMap<String, regex::Regex>> = RefCell::default();
    }

    fn looks_right<T: JsonSchema>(text: &str) -> bool {
        let schema = T::json_schema(&mut SchemaGenerator::default());
        let pattern = schema.get("pattern").and_then(|pattern| pattern.as_str()).unwrap_or("");
        let regex = PATTERNS.with_borrow_mut(|all| {
            all.entry(pattern.to_owned()).or_insert_with(|| regex::Regex::new(pattern).unwrap()).clone()
        });
        let least = schema.get("minLength").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let most = schema.get("maxLength").and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX);
        let length = text.chars().count() as u64;
        regex.is_match(text) && (least..=most).contains(&length)
    }

    fn takes_no_less(text: &str) {
        let claims = [
            ("name", vol_types::Name::new(text).is_ok(), looks_right::<Name>(text)),
            ("size", parse_bytes(text).is_ok(), looks_right::<Size>(text)),
            ("share", text.parse::<SizeSpec>().is_ok(), looks_right::<SizeOrShare>(text)),
            ("growth", text.parse::<GrowSpec>().is_ok(), looks_right::<NewSizeOrShare>(text)),
            ("reserve", text.parse::<ReserveSpec>().is_ok(), looks_right::<Reserve>(text)),
            ("grow_to", parse_growth(text).is_ok(), looks_right::<GrowTo>(text)),
            ("owner", text.parse::<vol_types::Owner>().is_ok(), looks_right::<Owner>(text)),
            ("mode", vol_types::mkfs::parse_mode(text).is_ok(), looks_right::<Mode>(text)),
            ("key", vol_types::label::check_key(text).is_ok(), looks_right::<LabelKey>(text)),
            ("selector", text.parse::<Selected>().is_ok(), looks_right::<Selector>(text)),
        ];
        for (what, taken, fits) in claims {
            assert!(fits || !taken, "{text:?} is taken as {what} and does not fit the schema");
        }
        let exact = [
            ("name", vol_types::Name::new(text).is_ok(), looks_right::<Name>(text)),
            ("mode", vol_types::mkfs::parse_mode(text).is_ok(), looks_right::<Mode>(text)),
            ("key", vol_types::label::check_key(text).is_ok(), looks_right::<LabelKey>(text)),
        ];
        for (what, taken, fits) in exact {
            assert_eq!(taken, fits, "{text:?} as {what}");
        }
    }

    #[test]
    fn what_people_write_fits() {
        for text in
            ["10G", " 10 GiB ", "1.5t", "512 mib", "7B", "7", "1.024KB", "80%free", "+10G", "+ 1g", "50%FREE", "full"]
        {
            takes_no_less(text);
        }
        for text in ["none", "0", "vg", "off", "data", "a.b-c_d", "0:33", "0750", "app/tier", "tier=fast,!old"] {
            takes_no_less(text);
        }
        assert!(looks_right::<Size>("10G") && !looks_right::<Size>("10X") && !looks_right::<Size>("+1G"));
        assert!(!looks_right::<Name>("") && !looks_right::<Name>("data\n") && !looks_right::<Name>(&"x".repeat(129)));
    }

    proptest! {
        #[test]
        fn what_the_daemon_takes_fits(text in "\\PC{0,12}") {
            takes_no_less(&text);
        }

        #[test]
        fn what_looks_like_a_size_and_is_one_fits(text in r"[ \t]?\+?[ ]?[0-9]{1,3}(\.[0-9]{1,2})?[ ]?[KMGkmgbBiIxX%]{0,3}(FREE)?[ ]?") {
            takes_no_less(&text);
        }
    }
}
