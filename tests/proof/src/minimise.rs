//! Makes what fails small.

/// The shortest list that was found which still fails, by leaving out pieces (delta debugging: halves, quarters, … single
/// elements, until no single one can go). `fails` is asked at most `budget` times.
pub fn shrink<T: Clone>(list: &[T], budget: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = list.to_vec();
    let mut left = budget;
    let mut piece = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < best.len() && left > 0 {
            let mut trial = best.clone();
            trial.drain(at..(at + piece).min(best.len()));
            left -= 1;
            if fails(&trial) {
                best = trial;
                shorter = true;
            } else {
                at += piece;
            }
        }
        if left == 0 || (piece == 1 && !shorter) {
            return best;
        }
        piece = if shorter { piece.min(best.len().max(1)) } else { piece.div_ceil(2) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let list: Vec<u32> = (0..50).collect();
        let fails = |list: &[u32]| list.contains(&7) && list.contains(&41);
        assert_eq!(shrink(&list, 500, fails), [7, 41]);
        let some = shrink(&list, 3, fails);
        assert!(fails(&some), "{some:?}");
        assert_eq!(shrink(&[1], 10, |_| true), []);
    }
}
