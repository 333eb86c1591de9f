//! Asking before an act that is hard to take back.

use std::io::Write as _;

use crate::{app::App, failure::Failure};

/// Asks `question` unless `yes`. Where nobody can answer, refuses and names the flag: a program does not consent.
pub async fn confirm(app: &mut App<'_>, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !app.streams.can_ask {
        return Err(Failure::found(
            "confirmation_required",
            format!("{question} This asks for confirmation, and there is no terminal to ask at"),
            "add --yes to confirm, or --dry-run to see what would happen",
        ));
    }
    write!(app.streams.err, "{question} [y/N] ")?;
    app.streams.err.flush()?;
    // On a thread of its own, so that Ctrl-C is heard meanwhile.
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = line.await.map_err(std::io::Error::other)??;
    if !line.ends_with('\n') {
        // Ctrl-D: what follows begins a line of its own.
        writeln!(app.streams.err)?;
    }
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::found("declined", "not confirmed; nothing was changed", "")),
    }
}
