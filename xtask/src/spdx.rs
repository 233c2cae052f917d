//! Licence expressions: enough of SPDX (`OR`, `AND`, `WITH`, parentheses, and the old `/` for OR) to ask whether the choice that an
//! expression leaves contains one that we accept.

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];
/// An exception adds permissions; these are known.
const EXCEPTIONS: &[&str] = &["LLVM-exception"];

/// Whether what the expression demands can be met with allowed licences.
pub fn allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    let answer = parser.any()?;
    match parser.words.first() {
        None => Ok(answer),
        Some(word) => Err(format!("{word:?} is out of place")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first().is_some_and(|first| *first == word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut answer = self.all()?;
        while self.take("OR") {
            answer |= self.all()?;
        }
        Ok(answer)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut answer = self.one()?;
        while self.take("AND") {
            answer &= self.one()?;
        }
        Ok(answer)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let answer = self.any()?;
            return if self.take(")") { Ok(answer) } else { Err("a parenthesis is not closed".into()) };
        }
        let mut answer = ALLOWED.contains(&self.word()?);
        if self.take("WITH") {
            answer &= EXCEPTIONS.contains(&self.word()?);
        }
        Ok(answer)
    }

    fn word(&mut self) -> Result<&str, String> {
        let (word, rest) = self.words.split_first().ok_or("it ends too early")?;
        if ["OR", "AND", "WITH", "(", ")"].contains(word) {
            return Err(format!("{word:?} is out of place"));
        }
        self.words = rest;
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_and_demands() {
        for yes in [
            "MIT",
            "MIT OR GPL-2.0-only",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "GPL-3.0-only OR MIT AND ISC",
        ] {
            assert_eq!(allowed(yes), Ok(true), "{yes}");
        }
        for no in
            ["GPL-2.0-only", "MIT AND GPL-2.0-only", "LGPL-2.1 OR GPL-2.0", "(MIT OR ISC) AND AGPL-3.0", "MIT WITH odd"]
        {
            assert_eq!(allowed(no), Ok(false), "{no}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT MIT", "OR MIT", "MIT)"] {
            assert!(allowed(broken).is_err(), "{broken}");
        }
    }
}
