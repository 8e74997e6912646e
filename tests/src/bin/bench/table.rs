//! Tables of text, in markdown, columns aligned.

use std::fmt::Write as _;
use std::time::Duration;

/// A table that is printed when it is whole.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that it lacks stay empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it after its title.
    pub(crate) fn print(&self, title: &str) {
        println!("\n### {title}\n\n{}", self.text());
    }

    fn text(&self) -> String {
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column| all().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        let mut line = |cells: Vec<String>| {
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                // The first column names what the others are of.
                let _ = if column == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
            }
            text.push_str("|\n");
        };
        line(self.head.clone());
        line(widths.iter().enumerate().map(|(column, width)| rule(column, *width)).collect());
        for row in &self.rows {
            line((0..widths.len()).map(|column| cell(row, column)).collect());
        }
        text
    }
}

fn rule(column: usize, width: usize) -> String {
    if column == 0 { "-".repeat(width) } else { format!("{}:", "-".repeat(width.saturating_sub(1))) }
}

/// A time in the unit that suits it.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        0.0..1e-3 => format!("{} µs", digits(seconds * 1e6)),
        1e-3..1.0 => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} s", digits(seconds)),
    }
}

/// A number to three digits; whole from a hundred on, with thousands set apart.
pub(crate) fn digits(number: f64) -> String {
    match number.abs() {
        0.0..9.995 => format!("{number:.2}"),
        9.995..99.95 => format!("{number:.1}"),
        _ => thousands(number.round() as u64),
    }
}

/// A count with its thousands set apart.
pub(crate) fn thousands(count: u64) -> String {
    let plain = count.to_string();
    let mut text = String::new();
    for (place, digit) in plain.chars().enumerate() {
        if place > 0 && (plain.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Bytes in MB.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{} MB", thousands(bytes >> 20))
}
