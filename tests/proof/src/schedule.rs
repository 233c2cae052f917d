//! Which cases are walked, in which parts. Each sequence of operations is walked in one part only.

use std::collections::HashSet;

use crate::enumerate::Case;
use crate::model::Model;
use crate::ops::{Op, Shape, all_ops, parse_ops};

/// Small starting states, as the operations that lead there. Every operation that changes anything changes it in one of them.
const SCENES: &[&str] = &[
    "",
    "vg-create:data",
    "vg-create:side",
    "init",
    "vg-create:data pool-create:tank",
    "vg-create:data pool-create:tank pool-create:spare",
    "vg-create:data pool-create:tank volume-create:pg",
    "vg-create:data pool-create:tank volume-create:raw",
    "vg-create:data pool-create:tank volume-create:box",
    "vg-create:data pool-create:spare volume-create:aux",
    "vg-create:data pool-create:tank volume-create:pg mount:pg write:pg",
    "vg-create:data pool-create:tank volume-create:raw attach:raw write:raw",
    "vg-create:data pool-create:tank volume-create:raw snapshot-create:raw@one",
    "vg-create:data pool-create:tank volume-create:pg mount:pg write:pg snapshot-create:pg@one",
    "vg-create:data pool-create:tank volume-create:pg snapshot-create:pg@one snapshot-create:pg@two",
    "vg-create:data pool-create:tank volume-create:pg snapshot-create:pg@one mount:pg@one",
    "vg-create:data pool-create:tank volume-create:pg snapshot-create:pg@one delete:pg",
    "vg-create:data pool-create:tank volume-create:web mount:web",
    "vg-create:data pool-create:tank volume-create:web mount:web snapshot-create:web@one mount:web@one",
    "vg-create:data pool-create:tank volume-create:pg volume-create:web volume-create:raw",
    "vg-create:data pool-create:tank volume-create:web snapshot-create:web@one",
    "vg-create:data pool-create:tank volume-create:pg delete:pg",
    "vg-create:data pool-create:tank pool-delete:tank",
    "vg-create:data vg-delete:data",
    "vg-create:side vg-create:data",
];

/// Scenes from which longer sequences begin: those in which much can be done.
const FERTILE: &[usize] = &[0, 1, 4, 5, 6, 7, 10, 11, 13, 14, 16, 17, 19];

/// Of those, so many are walked with five disks, too.
const WIDE: usize = 11;

/// And so many with five disks of which three carry a copy.
const FEWER_COPIES: usize = 4;

/// A part of the crash enumeration.
pub struct Part {
    pub name: &'static str,
    pub cases: Vec<Case>,
    /// Fewest distinct states that it must come to, at full length. It goes up, unless the product comes to write less for a change;
    /// then there is more in another part, for the sum may only go up.
    pub least: u64,
}

const S1: Shape = Shape::new(1, 1);
const S2: Shape = Shape::new(2, 2);
const S3: Shape = Shape::new(3, 3);
const S5: Shape = Shape::new(5, 5);
/// Fewer copies than disks.
const S31: Shape = Shape::new(3, 1);
const S53: Shape = Shape::new(5, 3);

/// Builds up the cases, none of them twice.
struct Builder {
    seen: HashSet<(Shape, Vec<Op>, Option<u64>)>,
    scenes: Vec<Vec<Op>>,
}

impl Builder {
    fn new() -> Self {
        let parse = |text: &&str| parse_ops(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        Self { seen: HashSet::new(), scenes: SCENES.iter().map(parse).collect() }
    }

    fn after(shape: Shape, before: &[Op]) -> Model {
        let mut version = 0;
        before.iter().fold(Model::default(), |model, op| {
            version += 1;
            model.apply(*op, shape, version).after
        })
    }

    fn changing(shape: Shape, before: &[Op]) -> Vec<Op> {
        let model = Self::after(shape, before);
        all_ops().iter().copied().filter(|op| model.changes(*op, shape)).collect()
    }

    /// All sequences of `len` operations, each changing something, from the scenes.
    fn sequences(
        &mut self,
        shape: Shape,
        scenes: &[usize],
        len: usize,
        deep: u64,
        cut_before: Option<u64>,
    ) -> Vec<Case> {
        let mut cases = Vec::new();
        for scene in scenes {
            let mut open = vec![self.scenes[*scene].clone()];
            for _ in 1..len {
                let longer = |before: &Vec<Op>| {
                    let ops = Self::changing(shape, before);
                    ops.into_iter().map(|op| before.iter().copied().chain([op]).collect()).collect::<Vec<Vec<Op>>>()
                };
                open = open.iter().flat_map(longer).collect();
            }
            for before in open {
                for op in Self::changing(shape, &before) {
                    let mut all = before.clone();
                    all.push(op);
                    if self.seen.insert((shape, all, cut_before)) {
                        cases.push(Case { shape, before: before.clone(), cut_before, op, deep });
                    }
                }
            }
        }
        cases
    }
}

/// The parts in their order.
pub fn parts(quick: bool) -> Vec<Part> {
    let mut build = Builder::new();
    let all: Vec<usize> = (0..SCENES.len()).collect();
    let mut parts = Vec::new();
    let mut one = build.sequences(S2, &all, 1, 1, None);
    one.extend(build.sequences(S1, &all, 1, 1, None));
    one.extend(build.sequences(S3, &all, 1, 2, None));
    one.extend(build.sequences(S31, &all, 1, 4, None));
    parts.push(Part { name: "1 operation, recovery crashed too", cases: one, least: 140_000 });
    if quick {
        return parts;
    }
    let mut wide = build.sequences(S5, &all, 1, 0, None);
    wide.extend(build.sequences(S53, &all, 1, 0, None));
    parts.push(Part { name: "1 operation, 5 disks", cases: wide, least: 120_000 });
    let mut two = build.sequences(S2, &all, 2, 0, None);
    two.extend(build.sequences(S3, &all, 2, 0, None));
    parts.push(Part { name: "2 operations", cases: two, least: 120_000 });
    // Not from all: each of these cases has many states.
    let mut wide = build.sequences(S5, &FERTILE[..WIDE], 2, 0, None);
    wide.extend(build.sequences(S53, &FERTILE[..FEWER_COPIES], 2, 0, None));
    parts.push(Part { name: "2 operations, 5 disks", cases: wide, least: 340_000 });
    let mut recovered = build.sequences(S2, FERTILE, 2, 0, Some(3));
    recovered.extend(build.sequences(S3, FERTILE, 2, 0, Some(6)));
    parts.push(Part { name: "2 operations, the first cut and recovered", cases: recovered, least: 80_000 });
    let three = build.sequences(S2, FERTILE, 3, 0, None);
    parts.push(Part { name: "3 operations", cases: three, least: 198_000 });
    parts
}
