//! Colours. Only ever applied where the stream is a terminal that wants them.

use anstyle::{AnsiColor, Style};

/// What is wrong.
pub const RED: Style = AnsiColor::Red.on_default().bold();
/// What is well.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// What is held back or needs a look.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// What is under way.
pub const CYAN: Style = AnsiColor::Cyan.on_default();
/// What is done with.
pub const DIM: Style = Style::new().dimmed();

/// `text` in `style`, where `colour`.
pub fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}
