//! Benchmarks live in `benches/benches`: programs that print ratios, since times of one machine say little about another.
#![forbid(unsafe_code)]
