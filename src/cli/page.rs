//! A contact sheet as a page of HTML: one file that needs no other, to read in any browser, on a phone too.
//!
//! Photos are written into it as they come, so that a page may hold any number of them. What comes from file names and
//! labels is escaped; there is no script.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use super::output::printable;
use super::sheet::{Cell, Line, NewFile};

const STYLE: &str = include_str!("page.css");
const JPEG_QUALITY: u8 = 82;

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page {
    file: NewFile,
}

impl Page {
    /// The width and height in pixels that a photo has at most: sharp on screens with two pixels where others have one.
    pub(super) const THUMBNAIL: (u32, u32) = (360, 360);

    /// A page without photos, headed by `title`.
    pub(super) fn create(path: &Path, title: &str) -> Result<Self> {
        let mut file = NewFile::create(path)?;
        let title = escape(title);
        file.add(|file| {
            write!(
                file,
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
                 content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
                 </head>\n<body>\n<h1>{title}</h1>\n<main>\n"
            )
        })?;
        Ok(Self { file })
    }

    /// Adds a photo, which leads to its file.
    pub(super) fn add(&mut self, cell: &Cell<'_>) -> Result<()> {
        let name = escape(&cell.name());
        let picture = match cell.photo {
            Ok(photo) => linked(cell, picture(photo, &name)?)?,
            Err(word) => format!("<div class=\"none\">{}</div>", escape(word)),
        };
        let lines: String = cell.lines.iter().map(line).collect();
        self.file.add(|file| {
            writeln!(
                file,
                "<figure>{picture}<figcaption><div class=\"name\">{name}</div>{lines}</figcaption></figure>"
            )
        })
    }

    /// Ends the page, which is then in its place.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.file
            .add(|file| write!(file, "</main>\n</body>\n</html>\n"))?;
        self.file.finish()
    }
}

/// A picture that leads to its file.
fn linked(cell: &Cell<'_>, picture: String) -> Result<String> {
    if cell.is_standard_input() {
        return Ok(picture);
    }
    let (url, path) = (file_url(cell.path)?, escape(&cell.path.to_string_lossy()));
    Ok(format!("<a href=\"{url}\" title=\"{path}\">{picture}</a>"))
}

fn picture(photo: &RgbImage, name: &str) -> Result<String> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode_image(photo)?;
    let (width, height) = photo.dimensions();
    Ok(format!(
        "<img alt=\"{name}\" width=\"{width}\" height=\"{height}\" src=\"data:image/jpeg;base64,{}\">",
        STANDARD.encode(jpeg)
    ))
}

fn line(line: &Line) -> String {
    let class = if line.stands_out { "line best" } else { "line" };
    let (text, figure) = (escape(&line.text), escape(&line.figure));
    format!(
        "<div class=\"{class}\"><span>{text}</span><span class=\"figure\">{figure}</span></div>"
    )
}

/// A text as it may stand between tags and in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The URL of a file, with the bytes of its name as the system has them.
///
/// # Source
///
/// RFC 8089 for file URLs, RFC 3986 for the characters that stay as they are.
fn file_url(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)?;
    let mut url = "file://".to_owned();
    if cfg!(windows) {
        url.push('/');
    }
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'\\' if cfg!(windows) => url.push('/'),
            b':' if cfg!(windows) => url.push(':'),
            b'/' | b'-' | b'.' | b'_' | b'~' => url.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => url.push(byte.into()),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_html_is_escaped() {
        assert_eq!(
            escape("<b> & \"it's\"\n"),
            "&lt;b&gt; &amp; &quot;it&#39;s&quot;\u{fffd}"
        );
    }

    #[test]
    #[cfg(unix)]
    fn urls_keep_every_byte_of_a_name() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let path = Path::new(OsStr::from_bytes(b"/a b/100%/\"q\"<'>/\xff?#.jpg"));
        assert_eq!(
            file_url(path).unwrap(),
            "file:///a%20b/100%25/%22q%22%3C%27%3E/%FF%3F%23.jpg"
        );
    }
}
