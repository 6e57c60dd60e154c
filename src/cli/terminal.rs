//! Pictures in a terminal: which of three protocols it knows, and a picture as that protocol writes it.
//!
//! A terminal is known by its environment alone: asking it would need its answers read from the keyboard's stream.

use std::io::{Cursor, IsTerminal, stdout};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use image::{ImageFormat, RgbImage};

use super::sixel;

/// The width and height in pixels that a photo has at most.
pub(super) const THUMBNAIL: (u32, u32) = (320, 240);

/// The most base64 that kitty takes in one piece.
const KITTY_PIECE: usize = 4096;

/// How pictures are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Show {
    /// As the terminal can, if it can
    Auto,
    /// kitty's graphics protocol: kitty, Ghostty
    Kitty,
    /// iTerm2's inline images: iTerm2, WezTerm, mintty, Rio
    Iterm,
    /// Sixel: foot, Konsole, Windows Terminal, mlterm, contour
    Sixel,
}

/// What a terminal is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Kitty,
    Iterm,
    Sixel,
}

impl Show {
    /// The protocol to write.
    ///
    /// # Errors
    ///
    /// Why there is none, for people.
    pub(super) fn protocol(self) -> Result<Protocol, &'static str> {
        match self {
            Show::Kitty => Ok(Protocol::Kitty),
            Show::Iterm => Ok(Protocol::Iterm),
            Show::Sixel => Ok(Protocol::Sixel),
            Show::Auto if !stdout().is_terminal() => {
                Err("no pictures are shown: standard output is not a terminal")
            }
            Show::Auto => detect(|name| std::env::var(name).ok().filter(|value| !value.is_empty())),
        }
    }
}

/// The protocol of the terminal that set these variables.
///
/// # Source
///
/// The variables that each terminal documents or is seen to set. iTerm2's goes through ssh, the others' do not.
fn detect(variable: impl Fn(&str) -> Option<String>) -> Result<Protocol, &'static str> {
    let is_set = |name: &str| variable(name).is_some();
    let term = variable("TERM").unwrap_or_default();
    let program = variable("TERM_PROGRAM").unwrap_or_default();
    let begins = |names: &[&str]| names.iter().any(|name| term.starts_with(name));
    // What lies around a multiplexer is set inside it too, and is not what reads our output.
    if is_set("TMUX") || is_set("STY") || is_set("ZELLIJ") || begins(&["tmux", "screen"]) {
        return Err(
            "no pictures are shown: tmux, screen or zellij is between, which may not pass them on; try --show=sixel",
        );
    }
    if is_set("KITTY_WINDOW_ID")
        || begins(&["xterm-kitty", "xterm-ghostty"])
        || program == "ghostty"
    {
        return Ok(Protocol::Kitty);
    }
    let inline = ["iTerm.app", "WezTerm", "mintty", "rio"];
    if inline.contains(&program.as_str())
        || is_set("WEZTERM_PANE")
        || variable("LC_TERMINAL").is_some_and(|name| name == "iTerm2")
    {
        return Ok(Protocol::Iterm);
    }
    // Konsole 22.04 and Windows Terminal 1.22 were the first; older ones leave out what they do not know.
    if is_set("KONSOLE_VERSION")
        || is_set("WT_SESSION")
        || begins(&["foot", "mlterm", "contour", "yaft"])
    {
        return Ok(Protocol::Sixel);
    }
    Err(
        "no pictures are shown: this terminal is not known to show any; --show=kitty, --show=iterm or --show=sixel tries",
    )
}

impl Protocol {
    /// What makes the terminal show a picture, and go to the next line.
    ///
    /// # Errors
    ///
    /// If the picture cannot be encoded.
    pub(super) fn escape(self, picture: &RgbImage) -> Result<Vec<u8>> {
        let mut escape = match self {
            Protocol::Kitty => kitty(&base64(picture)?),
            Protocol::Iterm => {
                let encoded = base64(picture)?;
                format!("\x1b]1337;File=inline=1;preserveAspectRatio=1:{encoded}\x07")
            }
            Protocol::Sixel => sixel::encode(picture),
        };
        escape.push('\n');
        Ok(escape.into_bytes())
    }
}

/// The picture as a PNG file.
fn base64(picture: &RgbImage) -> Result<String> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(STANDARD.encode(png.into_inner()))
}

/// In pieces, of which every one but the last says that more come. q=2: the terminal shall not answer.
///
/// # Source
///
/// "Terminal graphics protocol" in kitty's documentation: a=T transmits and displays, f=100 is PNG.
fn kitty(encoded: &str) -> String {
    let mut escape = String::with_capacity(encoded.len() + encoded.len() / 100 + 64);
    let mut control = "a=T,f=100,q=2,";
    let mut rest = encoded;
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(rest.len().min(KITTY_PIECE));
        let more = u8::from(!left.is_empty());
        escape.push_str(&format!("\x1b_G{control}m={more};{piece}\x1b\\"));
        control = "q=2,";
        rest = left;
    }
    escape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_known_by_what_they_set() {
        for (variables, expected) in [
            (&[("TERM", "xterm-kitty")][..], Some(Protocol::Kitty)),
            (
                &[("KITTY_WINDOW_ID", "1"), ("TERM", "xterm-256color")],
                Some(Protocol::Kitty),
            ),
            (&[("TERM_PROGRAM", "ghostty")], Some(Protocol::Kitty)),
            (&[("TERM_PROGRAM", "iTerm.app")], Some(Protocol::Iterm)),
            (&[("LC_TERMINAL", "iTerm2")], Some(Protocol::Iterm)),
            (&[("WEZTERM_PANE", "0")], Some(Protocol::Iterm)),
            (&[("TERM", "foot-extra")], Some(Protocol::Sixel)),
            (&[("TERM", "mlterm")], Some(Protocol::Sixel)),
            (&[("WT_SESSION", "x")], Some(Protocol::Sixel)),
            (&[("TERM", "xterm-256color")], None),
            (&[("TERM_PROGRAM", "Apple_Terminal")], None),
            (&[], None),
            (&[("TMUX", "/tmp/x"), ("KITTY_WINDOW_ID", "1")], None),
            (
                &[("TERM", "screen-256color"), ("LC_TERMINAL", "iTerm2")],
                None,
            ),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(detect(variable).ok(), expected, "{variables:?}");
        }
    }

    #[test]
    fn kitty_takes_pieces_that_say_whether_more_come() {
        let escape = kitty(&"x".repeat(2 * KITTY_PIECE + 3));
        let pieces: Vec<&str> = escape.split_terminator("\x1b\\").collect();
        assert_eq!(pieces.len(), 3);
        assert!(pieces[0].starts_with("\x1b_Ga=T,f=100,q=2,m=1;xxx"));
        assert!(pieces[1].starts_with("\x1b_Gq=2,m=1;xxx"));
        assert_eq!(pieces[2], "\x1b_Gq=2,m=0;xxx");
        assert_eq!(kitty("abcd"), "\x1b_Ga=T,f=100,q=2,m=0;abcd\x1b\\");
    }
}
