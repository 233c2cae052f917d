//! Mutations that are the same in every run, for the replay: what libFuzzer does at random, from a seed.

/// Numbers that break arithmetic.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    512,
    4095,
    4096,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 4095,
    u64::MAX,
];

/// A source of choices (xorshift64).
#[derive(Clone, Debug)]
pub struct Choice(u64);

impl Choice {
    /// The same seed gives the same choices.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    /// Below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % end.max(1)
    }
    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// One to four edits of `from`, possibly with a piece of `other`; at most `max` bytes long.
pub fn mutated(choice: &mut Choice, from: &[u8], other: &[u8], max: usize) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..=choice.below(4) {
        edit(choice, &mut bytes, other);
    }
    bytes.truncate(max);
    bytes
}

fn edit(choice: &mut Choice, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = choice.below(bytes.len());
    let end = at + choice.below((bytes.len() - at).min(64) + 1);
    match choice.below(9) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << choice.below(8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = choice.byte()),
        // A number at its edges, as one, two, four or eight bytes: lengths, counts, positions.
        2 | 3 => {
            let value = EDGES[choice.below(EDGES.len())].wrapping_add(choice.below(3) as u64).wrapping_sub(1);
            let len = 1 << choice.below(4);
            bytes.iter_mut().skip(at).zip(value.to_le_bytes().into_iter().take(len)).for_each(|(to, from)| *to = from);
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end)),
        6 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        7 => {
            let from = choice.below(other.len());
            let to = from + choice.below((other.len() - from).min(256) + 1);
            let until = if choice.below(2) == 0 { at } else { (at + to - from).min(bytes.len()) };
            bytes.splice(at..until, other[from..to].iter().copied());
        }
        _ => {
            let insert: Vec<u8> = (0..=choice.below(16)).map(|_| choice.byte()).collect();
            bytes.splice(at..at, insert);
        }
    }
}
