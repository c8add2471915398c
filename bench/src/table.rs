//! Markdown tables that also read well in a terminal, and the arithmetic of comparisons.

use std::fmt;

/// A table of text: the first column left, the others right aligned.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: AsRef<str>>(header: &[S]) -> Table {
        Table {
            rows: vec![header.iter().map(|s| s.as_ref().to_string()).collect()],
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(|c| c.replace('|', "\\|")).collect();
        assert_eq!(
            row.len(),
            self.rows[0].len(),
            "a row has as many cells as the header"
        );
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |c: usize| {
            self.rows
                .iter()
                .map(|r| r[c].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (c, cell) in row.iter().enumerate() {
                let width = widths[c];
                if c == 0 {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if index == 0 {
                for (c, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    if c == 0 {
                        write!(f, "|{dashes}-")?;
                    } else {
                        write!(f, "|{dashes}:")?;
                    }
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// A number, or that it is not known.
pub fn known(value: Option<f64>) -> String {
    value.map_or("?".to_string(), number)
}

/// Three significant digits, without exponent.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Requests per second: 812K, 1.25M.
pub fn rate(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.2}M", v / 1e6),
        v if v >= 10_000.0 => format!("{:.0}K", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// The middle value; the mean of the two in the middle of an even number. None of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let mid = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[mid]),
        _ => Some((values[mid - 1] + values[mid]) / 2.0),
    }
}

/// `a / b` as `1.23x`; `?` where there is nothing to divide by.
pub fn ratio(a: Option<f64>, b: Option<f64>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}x", a / b),
        _ => "?".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0931, "0.093"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (-0.5, "-0.500"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        for (value, text) in [
            (1234.0, "1234"),
            (87_400.0, "87K"),
            (999_499.0, "999K"),
            (1.25e6, "1.25M"),
        ] {
            assert_eq!(rate(value), text);
        }
        assert_eq!(ratio(Some(1.0), Some(4.0)), "0.25x");
        assert_eq!(ratio(Some(1.0), Some(0.0)), "?");
        assert_eq!(ratio(None, Some(1.0)), "?");
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["name", "us"]);
        table.row(["a|b".into(), "1.5".into()]);
        table.row(["longer".into(), "10".into()]);
        let expect = "| name   |  us |\n|--------|----:|\n| a\\|b   | 1.5 |\n| longer |  10 |\n";
        assert_eq!(table.to_string(), expect);
    }
}
