//! Several histograms as text.

use std::fmt;

use crate::{Histogram, least_of};

/// Columns of the longest bar.
const BAR: u128 = 40;

/// Histograms with names, to be shown under each other.
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// One without histograms.
    pub fn new() -> Self {
        Self { series: Vec::new() }
    }

    /// With another histogram.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }

    /// To be printed: a line for each bucket that holds something.
    pub fn detailed(&self) -> Detailed<'_, T> {
        Detailed(self)
    }
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows all of a chart: the least value of each bucket, how many there are, and a bar.
pub struct Detailed<'a, T>(&'a AsciiChart<T>);

impl<T> fmt::Display for Detailed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0.series {
            writeln!(f, "{name}: {}", histogram.total())?;
            let most = histogram.filled().map(|(_, count)| count).max().unwrap_or(1);
            for (bucket, count) in histogram.filled() {
                let bar = usize::try_from(u128::from(count) * BAR / u128::from(most)).unwrap_or_default();
                writeln!(f, "{:>20} {count:>12} {}", least_of(bucket), "#".repeat(bar.max(1)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_bucket_that_holds_something() {
        let mut histogram = Histogram::new();
        histogram.record_n(1, 40);
        histogram.record(100);
        let chart = AsciiChart::<()>::new().add("batches", histogram);
        let text = chart.detailed().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "batches: 41");
        assert!(lines[1].ends_with(&"#".repeat(40)));
        assert!(lines[2].contains("96") && lines[2].ends_with(" #"));
    }
}
