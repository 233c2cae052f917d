//! Aligned columns: two spaces between them, no borders, nothing cut off.

use super::clean;

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A head and rows of as many cells.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[(&'static str, Align)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells are cleaned. Missing cells are empty, cells beyond the head are dropped.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.head.len()).map(|cell| clean(&cell)).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its end; the head first unless `no_headers`.
    pub fn render(&self, no_headers: bool) -> String {
        let head: Vec<String> = self.head.iter().map(|(title, _)| (*title).to_owned()).collect();
        let lines: Vec<&Vec<String>> = (!no_headers).then_some(&head).into_iter().chain(&self.rows).collect();
        let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.head.len()).map(|at| width(at).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let mut shown = String::new();
            for ((cell, (_, align)), width) in line.iter().zip(&self.head).zip(&widths) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                match align {
                    Align::Left => shown.extend([cell.as_str(), &padding, "  "]),
                    Align::Right => shown.extend([padding.as_str(), cell, "  "]),
                }
            }
            text.push_str(shown.trim_end());
            text.push('\n');
        }
        text
    }
}
