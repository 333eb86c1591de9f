//! A story told to people.

use std::io::{self, Write};

use crate::{history::Line, run::Story};

/// How many of the last lines are shown of a story that went wrong.
const TAIL: usize = 40;

/// Writes what came of a story; with `trace`, all of it.
///
/// # Errors
/// The output could not be written.
pub fn write(out: &mut impl Write, story: &Story, trace: bool) -> io::Result<()> {
    let lines = &story.evidence.record.lines;
    let wrong = !story.held() || !story.coverage.gaps.is_empty();
    if trace {
        lines.iter().try_for_each(|each| line(out, each))?;
    } else if wrong {
        writeln!(out, "the last lines:")?;
        lines
            .iter()
            .skip(lines.len().saturating_sub(TAIL))
            .try_for_each(|each| line(out, each))?;
    }
    let seed = story.options.seed;
    writeln!(
        out,
        "seed {seed}: {:.1} simulated seconds, log {}",
        story.simulated.as_secs_f64(),
        story.hash
    )?;
    for fault in &story.faults {
        let fired = if fault.fired { "fired" } else { "DID NOT FIRE" };
        let (from, to) = (fault.from.as_secs_f64(), fault.to.as_secs_f64());
        writeln!(
            out,
            "  fault {from:7.3}s to {to:7.3}s {fired}: {} ({})",
            fault.kind, fault.effect
        )?;
    }
    let coverage = &story.coverage;
    writeln!(
        out,
        "  {} operations, {} acknowledged, {} of them while nothing was wrong",
        coverage.operations, coverage.acknowledged, coverage.calm
    )?;
    let fired: Vec<_> = coverage
        .fired
        .iter()
        .map(|(word, times)| format!("{word} {times}"))
        .collect();
    writeln!(
        out,
        "  leadership was won {} times; fired: {}",
        coverage.terms,
        fired.join(", ")
    )?;
    for (name, findings) in &story.findings {
        let found = findings.violations.len() + findings.suppressed;
        let verdict = if found == 0 { "held" } else { "VIOLATED" };
        writeln!(
            out,
            "  invariant {name}: {verdict} ({} checks, {found} violations)",
            findings.checked
        )?;
        findings
            .violations
            .iter()
            .try_for_each(|violation| writeln!(out, "    {violation}"))?;
    }
    coverage.gaps.iter().try_for_each(|gap| writeln!(out, "  GAP: {gap}"))?;
    if wrong {
        writeln!(
            out,
            "replay: cargo run --release --bin meshkit-chaos -- run --seed {seed}{} --trace",
            plant(story)
        )?;
    }
    Ok(())
}

fn plant(story: &Story) -> String {
    use clap::ValueEnum;
    let value = story.options.plant.and_then(|plant| plant.to_possible_value());
    value.map_or_else(String::new, |value| format!(" --plant {}", value.get_name()))
}

fn line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    writeln!(out, "{:9.3}s {}", line.at.as_secs_f64(), line.text)
}
