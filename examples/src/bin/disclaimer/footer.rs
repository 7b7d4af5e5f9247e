//! The footer, and how it is put into a text.

use crate::mime::Format;

/// The longest footer in bytes.
const MAX_LEN: usize = 64 * 1024;

/// What is added to each mail.
#[derive(Clone, Debug)]
pub(crate) struct Footer {
    /// In CRLF lines, without the last line end.
    text: String,
    flowed: String,
    html: String,
}

/// Why there can be no such footer.
#[derive(Debug)]
pub(crate) struct FooterError {
    pub(crate) is_in_html: bool,
    pub(crate) what: String,
}

impl Footer {
    /// A footer; its HTML is made of the text unless there is some.
    pub(crate) fn new(text: &str, html: Option<&str>) -> Result<Self, FooterError> {
        let error = |is_in_html| move |what| FooterError { is_in_html, what };
        let text = lines(text).map_err(error(false))?;
        let html = match html {
            Some(html) => lines(html).map_err(error(true))?,
            None => to_html(&text),
        };
        Ok(Self {
            flowed: flowed(&text),
            text,
            html,
        })
    }

    pub(crate) fn in_format(&self, format: Format) -> &str {
        match format {
            Format::Plain => &self.text,
            Format::Flowed => &self.flowed,
            Format::Html => &self.html,
        }
    }
}

/// The text in CRLF lines, without empty ones at either end.
fn lines(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_LEN {
        return Err(format!("it is longer than {MAX_LEN} bytes"));
    }
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .collect();
    for (line, number) in lines.iter().zip(1..) {
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(format!("line {number} has a control character"));
        }
    }
    let is_text = |line: &&str| !line.trim().is_empty();
    let Some(first) = lines.iter().position(is_text) else {
        return Err("it is empty".to_owned());
    };
    let last = lines.iter().rposition(is_text).unwrap_or(first);
    Ok(lines[first..=last].join("\r\n"))
}

fn to_html(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<p>{}</p>", escaped.replace("\r\n", "<br>\r\n"))
}

/// The same lines in `format=flowed`: none is joined with the next, none looks quoted (RFC 3676
/// 4.1, 4.4).
fn flowed(text: &str) -> String {
    let lines = text.split("\r\n").map(|line| {
        // 4.3: the separator of signatures keeps its space, and ends no line softly.
        let line = if line == "-- " {
            line
        } else {
            line.trim_end_matches(' ')
        };
        let stuffed = line.starts_with([' ', '>']) || line.starts_with("From ");
        [if stuffed { " " } else { "" }, line].concat()
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// Where in the content a footer goes, and the footer with the line breaks around it.
pub(crate) fn place(content: &[u8], format: Format, footer: &[u8]) -> (usize, Vec<u8>) {
    let at = match format {
        Format::Html => end_of_page(content),
        Format::Plain | Format::Flowed => content.len(),
    };
    let before = &content[..at];
    let mut breaks = usize::from(!before.is_empty() && !before.ends_with(b"\n"));
    // An empty line ends the paragraph, also one whose last line would flow into the next.
    if format != Format::Html && !before.is_empty() {
        breaks += 1;
    }
    let addition = [&b"\r\n".repeat(breaks), footer, b"\r\n"].concat();
    (at, addition)
}

/// Before the last `</body>` or `</html>` that is in no comment, else at the end.
fn end_of_page(html: &[u8]) -> usize {
    let (mut body, mut page) = (None, None);
    let mut at = 0;
    while let Some(tag) = find(&html[at..], b"<").map(|tag| at + tag) {
        let rest = &html[tag..];
        at = tag + 1;
        if rest.starts_with(b"<!--") {
            // What a comment holds is not shown, nor would be what is added in it. `<!-->` is one.
            match find(&rest[2..], b"-->") {
                Some(len) => at = tag + 2 + len + 3,
                None => break,
            }
        } else if starts_with(rest, b"</body") {
            body = Some(tag);
        } else if starts_with(rest, b"</html") {
            page = Some(tag);
        }
    }
    body.or(page).unwrap_or(html.len())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn starts_with(text: &[u8], what: &[u8]) -> bool {
    text.get(..what.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(content: &str, format: Format, footer: &str) -> String {
        let (at, addition) = place(content.as_bytes(), format, footer.as_bytes());
        let (before, after) = content.as_bytes().split_at(at);
        String::from_utf8([before, &addition, after].concat()).unwrap()
    }

    #[test]
    fn the_end_of_a_text() {
        for (content, whole) in [
            ("", "F\r\n"),
            ("a", "a\r\n\r\nF\r\n"),
            ("a\r\n", "a\r\n\r\nF\r\n"),
            ("flows \r\n", "flows \r\n\r\nF\r\n"),
        ] {
            assert_eq!(placed(content, Format::Flowed, "F"), whole);
        }
    }

    #[test]
    fn the_end_of_a_page() {
        for (content, whole) in [
            ("a</BODY></html>\r\n", "a\r\n|</BODY></html>\r\n"),
            ("a\r\n</html>", "a\r\n|</html>"),
            ("a", "a\r\n|"),
            ("", "|"),
            (
                "<body>a</body><!-- </body> -->",
                "<body>a\r\n|</body><!-- </body> -->",
            ),
            ("<!-->a</body>", "<!-->a\r\n|</body>"),
            ("a</body><!-- </html>", "a\r\n|</body><!-- </html>"),
            ("a</bod", "a</bod\r\n|"),
        ] {
            assert_eq!(
                placed(content, Format::Html, "F"),
                whole.replace('|', "F\r\n")
            );
        }
    }

    #[test]
    fn flowed_lines_neither_flow_nor_quote() {
        let footer = Footer::new("-- \n> Us  \n From\nFrom us \n", None).unwrap();
        assert_eq!(
            footer.in_format(Format::Flowed),
            "-- \r\n > Us\r\n  From\r\n From us"
        );
        assert_eq!(
            footer.in_format(Format::Plain),
            "-- \r\n> Us  \r\n From\r\nFrom us "
        );
    }

    #[test]
    fn html_is_made_of_the_text() {
        let footer = Footer::new("\u{feff}\r\n\r\nA & <b>\r\nÜ\r\n\r\n", None).unwrap();
        assert_eq!(footer.in_format(Format::Plain), "A & <b>\r\nÜ");
        assert_eq!(
            footer.in_format(Format::Html),
            "<p>A &amp; &lt;b&gt;<br>\r\nÜ</p>"
        );
        let footer = Footer::new("a", Some("<i>b</i>\n")).unwrap();
        assert_eq!(footer.in_format(Format::Html), "<i>b</i>");
    }

    #[test]
    fn footers_that_no_mail_can_hold() {
        for (text, said) in [
            (" \n\t\n", "it is empty"),
            ("a\nb\0", "line 2 has a control character"),
            (&*"x".repeat(MAX_LEN + 1), "it is longer than 65536 bytes"),
        ] {
            let error = Footer::new(text, None).unwrap_err();
            assert_eq!((error.is_in_html, &*error.what), (false, said));
            let error = Footer::new("a", Some(text)).unwrap_err();
            assert_eq!((error.is_in_html, &*error.what), (true, said));
        }
    }
}
