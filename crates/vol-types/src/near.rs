//! The word that was probably meant.

/// The one of `words` that is like `word`, if one is: at most half of its letters differ.
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing that is known is so long, and the work grows with the length.
    if word.len() > 64 {
        return None;
    }
    let (edits, other) = words.map(|other| (edits(word.as_bytes(), other.as_bytes()), other)).min()?;
    (edits <= other.len() / 2).then_some(other)
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.iter().enumerate() {
        let mut left = at + 1;
        let mut next = vec![left];
        for (other, pair) in to.iter().zip(row.windows(2)) {
            let [corner, above] = *pair else { continue };
            left = (corner + usize::from(letter != other)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_is_found_and_another_is_not() {
        let known = || ["metrics_listen", "label", "quota"].into_iter();
        assert_eq!(nearest("metrics_listn", known()), Some("metrics_listen"));
        assert_eq!(nearest("lable", known()), Some("label"));
        assert_eq!(nearest("xyz", known()), None);
        assert_eq!(nearest(&"label".repeat(100), known()), None);
        assert_eq!((edits(b"", b"abc"), edits(b"abc", b"abc"), edits(b"kitten", b"sitting")), (3, 0, 3));
    }
}
