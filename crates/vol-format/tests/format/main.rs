//! Tests of the on-disk format as its users see it. Names begin with the invariant they are about (`FMT-…` in
//! `docs/spec/on-disk-format.md`).

mod checkpoint;
mod corruption;
mod examine;
mod golden;
mod hostile;
mod label;
mod mark;
mod record;
mod sample;
mod spec;
mod thin;
mod thin_changes;
mod thin_sharing;
