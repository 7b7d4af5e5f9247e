use super::*;

fn footer() -> Footer {
    Footer::new("-- \nGruß", Some("<p>Gruß</p>")).unwrap()
}

fn ascii() -> Footer {
    Footer::new("FOOTER", None).unwrap()
}

fn run(head: &str, body: &str, footer: &Footer) -> Result<(String, Vec<Field>), LeftAlone> {
    let changed = add(head.as_bytes(), body.as_bytes(), footer)?;
    Ok((String::from_utf8(changed.body).unwrap(), changed.fields))
}

/// Adds a footer that changes no header field of the mail.
fn body(head: &str, text: &str, footer: &Footer) -> String {
    let (body, fields) = run(head, text, footer).unwrap();
    assert_eq!(fields, []);
    body
}

fn left_alone(head: &str, text: &str) -> LeftAlone {
    run(head, text, &ascii()).unwrap_err()
}

#[test]
fn a_mail_without_mime() {
    assert_eq!(body("", "hi\r\n", &ascii()), "hi\r\n\r\nFOOTER\r\n");
    assert_eq!(body("", "", &ascii()), "FOOTER\r\n");
}

#[test]
fn what_was_ascii_becomes_utf_8() {
    let (text, fields) = run("", "a = b\r\n", &footer()).unwrap();
    assert_eq!(text, "a =3D b\r\n\r\n--=20\r\nGru=C3=9F\r\n");
    assert_eq!(
        fields,
        [
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Content-Transfer-Encoding", "quoted-printable".to_owned()),
        ]
    );
    // Other parameters stay.
    let head = "Content-Type: text/plain; Charset=us-ascii; format=flowed; x=\"a b\"\r\n";
    let (_, fields) = run(head, "a\r\n", &footer()).unwrap();
    let wanted = "text/plain; charset=utf-8; format=flowed; x=\"a b\"";
    assert_eq!(fields[0].1, wanted);
}

#[test]
fn seven_bits_become_quoted_printable() {
    let head = "Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 7bit\r\n";
    let (text, fields) = run(head, "hi\r\n", &footer()).unwrap();
    assert_eq!(text, "hi\r\n\r\n--=20\r\nGru=C3=9F\r\n");
    let wanted = ("Content-Transfer-Encoding", "quoted-printable".to_owned());
    assert_eq!(fields, [wanted]);
}

#[test]
fn a_long_line_becomes_quoted_printable() {
    for (len, is_long) in [(998, false), (999, true)] {
        let footer = Footer::new(&"x".repeat(len), None).unwrap();
        let head = "Content-Transfer-Encoding: 8bit\r\n";
        let (text, fields) = run(head, "hi\r\n", &footer).unwrap();
        assert_eq!(!fields.is_empty(), is_long);
        let longest = text.lines().map(str::len).max().unwrap();
        assert_eq!(longest, if is_long { 76 } else { len });
    }
}

#[test]
fn each_transfer_encoding() {
    let head = |encoding| {
        format!(
            "Content-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: {encoding}\r\n"
        )
    };
    assert_eq!(
        body(&head("8bit"), "hä\r\n", &footer()),
        "hä\r\n\r\n-- \r\nGruß\r\n"
    );
    assert_eq!(
        body(&head("Quoted-Printable"), "h=c3=a4 =\r\n!", &footer()),
        "h=c3=a4 =\r\n!\r\n\r\n--=20\r\nGru=C3=9F\r\n"
    );
    // "hä" and a line break
    assert_eq!(
        body(&head("base64"), "aMOkDQo=\r\n", &footer()),
        "aMOkDQoNCi0tIA0KR3J1w58NCg==\r\n"
    );
    let unknown = LeftAlone::Transfer("x-uuencode".into());
    assert_eq!(left_alone(&head("x-uuencode"), "hi\r\n"), unknown);
    let broken = LeftAlone::Transfer("base64".into());
    assert_eq!(left_alone(&head("base64"), "hi!\r\n"), broken);
}

#[test]
fn each_character_set() {
    let add_to = |charset: &str, content: &[u8]| {
        let head = format!(
            "Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n"
        );
        add(head.as_bytes(), content, &footer())
    };
    let latin = add_to("ISO-8859-1", b"h\xe4\r\n").unwrap();
    assert_eq!(latin.body, b"h\xe4\r\n\r\n-- \r\nGru\xdf\r\n");
    assert_eq!(latin.fields, []);
    // Cyrillic has no such letter: all of it becomes UTF-8.
    let cyrillic = add_to("koi8-r", b"\xd1\r\n").unwrap();
    assert_eq!(cyrillic.body, b"=D1=8F\r\n\r\n--=20\r\nGru=C3=9F\r\n");
    assert_eq!(cyrillic.fields[0].1, "text/plain; charset=utf-8");
    // What is not what it says cannot be told in another way.
    let broken = add_to("us-ascii", b"h\xe4\r\n").unwrap_err();
    assert_eq!(broken, LeftAlone::Charset("us-ascii".into()));
    let unknown = add_to("utf-7", b"a\r\n").unwrap_err();
    assert_eq!(unknown, LeftAlone::Charset("utf-7".into()));
}

#[test]
fn html_names_what_its_character_set_lacks() {
    let head = "Content-Type: TEXT/HTML\r\n";
    let text = "<HTML><body>hi</body></HTML>\r\n";
    assert_eq!(
        body(head, text, &footer()),
        "<HTML><body>hi\r\n<p>Gru&#223;</p>\r\n</body></HTML>\r\n"
    );
    let head =
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n";
    let text = "<p a=3D\"b\">x </bo=\r\ndy></html>";
    assert_eq!(
        body(head, text, &footer()),
        "<p a=3D\"b\">x =\r\n\r\n<p>Gru=C3=9F</p>\r\n</bo=\r\ndy></html>"
    );
}

const MIXED: &str = "Content-Type: multipart/mixed;\r\n\tboundary=\"out er\"\r\n";

/// Text in two forms, a page with a picture, and attachments.
const NESTED: &str = "preamble\r\n\
    --out er\r\n\
    Content-Type: multipart/alternative; boundary=inner\r\n\
    \r\n\
    --inner  \r\n\
    \r\n\
    plain\r\n\
    --inner\r\n\
    Content-Type: multipart/related; boundary=rel; start=\"<page@x>\"\r\n\
    \r\n\
    --rel\r\n\
    Content-Type: text/html\r\n\
    \r\n\
    not this\r\n\
    --rel\r\n\
    Content-ID: <page@x>\r\n\
    Content-Type: text/html\r\n\
    \r\n\
    <p>page\r\n\
    --rel--\r\n\
    --inner--\r\n\
    \r\n\
    --out er\r\n\
    Content-Type: text/plain; name=notes.txt\r\n\
    \r\n\
    attached\r\n\
    --out er\r\n\
    Content-Type: text/plain\r\n\
    \r\n\
    second text\r\n\
    --out er--\r\n\
    epilogue --inner\r\n";

#[test]
fn both_alternatives_and_nothing_else() {
    let wanted = NESTED
        .replace("plain\r\n--inner", "plain\r\n\r\nFOOTER\r\n\r\n--inner")
        .replace("page\r\n--rel--", "page\r\n<p>FOOTER</p>\r\n\r\n--rel--");
    assert_ne!(wanted, NESTED);
    assert_eq!(body(MIXED, NESTED, &ascii()), wanted);
}

#[test]
fn a_page_is_first_or_named() {
    let text = "--r\r\nContent-Type: text/html\r\n\r\n<p>\r\n\
                --r\r\nContent-Type: text/html\r\nContent-ID: <2@x>\r\n\r\n<i>\r\n--r--\r\n";
    let related = |more: &str| format!("Content-Type: multipart/related; boundary=r{more}\r\n");
    let footer_after = |tag: &str| {
        let (end, footer) = (
            format!("{tag}\r\n"),
            format!("{tag}\r\n<p>FOOTER</p>\r\n\r\n"),
        );
        text.replace(&end, &footer)
    };
    assert_eq!(body(&related(""), text, &ascii()), footer_after("<p>"));
    assert_eq!(
        body(&related("; start=\"<2@x>\""), text, &ascii()),
        footer_after("<i>")
    );
    assert_eq!(left_alone(&related("; start=3"), text), LeftAlone::NoText);
}

#[test]
fn a_part_without_headers_gets_some_if_it_must() {
    let text = "--out er\r\n\r\nplain\r\n--out er--\r\n";
    assert_eq!(
        body(MIXED, text, &footer()),
        "--out er\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\
         \r\n\
         plain\r\n\r\n--=20\r\nGru=C3=9F\r\n\r\n--out er--\r\n"
    );
    let text =
        "--out er\r\nX-A: 1\r\nContent-Type:\r\n text/plain\r\nX-B: 2\r\n\r\n\r\n--out er--\r\n";
    assert_eq!(
        body(MIXED, text, &footer()),
        "--out er\r\n\
         X-A: 1\r\n\
         X-B: 2\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\
         \r\n\
         --=20\r\nGru=C3=9F\r\n\r\n--out er--\r\n"
    );
}

#[test]
fn attachments_never() {
    let part = |fields: &str| format!("--out er\r\n{fields}\r\n\r\ntext\r\n--out er--\r\n");
    for fields in [
        "Content-Disposition: attachment",
        "Content-Disposition: inline; filename=a.txt",
        "Content-Disposition: x",
        "Content-Type: text/plain; name=a",
        "Content-Type: text/calendar",
        "Content-Type: message/rfc822",
        "Content-Type: image/png",
        "Content-Type: multipart/digest; boundary=x",
        "Content-Type: text/plain\r\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==",
    ] {
        assert_eq!(
            left_alone(MIXED, &part(fields)),
            LeftAlone::NoText,
            "{fields}"
        );
    }
    let text = part("Content-Disposition: inline\r\nContent-Type: text/plain");
    assert!(body(MIXED, &text, &ascii()).contains("text\r\n\r\nFOOTER\r\n"));
}

#[test]
fn signed_and_encrypted_mail_is_left_alone() {
    for kind in [
        "multipart/signed; boundary=x",
        "multipart/encrypted; boundary=x",
        "application/pkcs7-mime; smime-type=signed-data",
        "Application/X-PKCS7-MIME",
    ] {
        let head = format!("Content-Type: {kind}\r\n");
        let signed = "--x\r\n\r\ntext\r\n--x\r\n\r\nsignature\r\n--x--\r\n";
        assert_eq!(left_alone(&head, signed), LeftAlone::Signed, "{kind}");
        // As a list's server leaves it, with a part of its own.
        let text =
            format!("--out er\r\n\r\nlist\r\n--out er\r\n{head}\r\n{signed}\r\n--out er--\r\n");
        assert_eq!(left_alone(MIXED, &text), LeftAlone::Signed, "{kind}");
    }
    let inline = "-----BEGIN PGP SIGNED MESSAGE-----\r\n";
    assert_eq!(left_alone("", inline), LeftAlone::Signed);
    let head = "Content-Transfer-Encoding: quoted-printable\r\n";
    let text = "hi\r\n=2D----BEGIN PGP MESSAGE-----\r\n";
    assert_eq!(left_alone(head, text), LeftAlone::Signed);
}

#[test]
fn what_programs_read_differently_is_left_alone() {
    for (head, text) in [
        (MIXED, "no part at all\r\n"),
        (MIXED, "--out er\r\n\r\nno end\r\n"),
        (
            MIXED,
            "--out er\r\n\r\na\r\n--out erX\r\n\r\nb\r\n--out er--\r\n",
        ),
        (MIXED, "--out er\r\nno empty line\r\n--out er--\r\n"),
        ("Content-Type: multipart/mixed\r\n", "a\r\n"),
        (
            "Content-Type: text/plain\r\nContent-type: text/html\r\n",
            "a\r\n",
        ),
        (
            "Content-Type: text/plain; charset=utf-8; charset=utf-7\r\n",
            "a\r\n",
        ),
        ("Content-Type:\r\n", "a\r\n"),
    ] {
        let reason = left_alone(head, text);
        assert!(
            matches!(reason, LeftAlone::Malformed(_)),
            "{head}{text}: {reason}"
        );
    }
    let mut deep = "\r\ntext\r\n".to_owned();
    for depth in 0..100 {
        deep = format!(
            "Content-Type: multipart/mixed; boundary=b{depth}.\r\n\r\n--b{depth}.\r\n{deep}\r\n--b{depth}.--\r\n"
        );
    }
    let (head, text) = deep.split_once("\r\n\r\n").unwrap();
    assert!(matches!(
        left_alone(&format!("{head}\r\n"), text),
        LeftAlone::Malformed(_)
    ));
    let many = "--out er\r\n\r\n\r\n".repeat(2000) + "--out er--\r\n";
    assert!(matches!(left_alone(MIXED, &many), LeftAlone::Malformed(_)));
}

#[test]
fn a_footer_ends_no_part() {
    let text = "--FOOT\r\n\r\na\r\n--FOOT--\r\n";
    let head = "Content-Type: multipart/mixed; boundary=FOOT\r\n";
    let footer = Footer::new("--FOOTER", None).unwrap();
    let reason = run(head, text, &footer).unwrap_err();
    assert!(matches!(reason, LeftAlone::Malformed(_)));
}

#[test]
fn one_alternative_is_better_than_none() {
    let head = "Content-Type: multipart/alternative; boundary=x\r\n";
    let text = "--x\r\nContent-Type: text/plain; charset=utf-7\r\n\r\na\r\n\
                --x\r\nContent-Type: text/html\r\n\r\nb\r\n--x--\r\n";
    let changed = add(head.as_bytes(), text.as_bytes(), &ascii()).unwrap();
    assert_eq!(changed.partly, Some(LeftAlone::Charset("utf-7".into())));
    let wanted = text.replace("b\r\n--x--", "b\r\n<p>FOOTER</p>\r\n\r\n--x--");
    assert_eq!(changed.body, wanted.as_bytes());
}

mod any_mail {
    use proptest::prelude::*;

    use super::*;

    /// Lines that mean something, in any order.
    fn mail() -> impl Strategy<Value = String> {
        let lines = prop_oneof![
            3 => Just(""), 3 => Just("--x"), 2 => Just("--x--"), 1 => Just("--y"), 1 => Just("--y--"),
            1 => Just("text"), 1 => Just("Content-Type: text/plain"), 1 => Just("Content-Type: text/html"),
            1 => Just("Content-Type: multipart/mixed; boundary=y"),
            1 => Just("Content-Type: multipart/alternative; boundary=y"),
            1 => Just("Content-Transfer-Encoding: base64"),
            1 => Just("Content-Transfer-Encoding: quoted-printable"),
            1 => Just("=C3=BC</body>"), 1 => Just("aMOkDQo="), 1 => Just(" folded="), 1 => Just("hü"),
        ];
        let ends = prop_oneof![4 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")];
        proptest::collection::vec((lines, ends), 0..25).prop_map(|lines| {
            lines
                .into_iter()
                .flat_map(|(line, end)| [line, end])
                .collect()
        })
    }

    proptest! {
        // Taking away the footer's lines gives the mail as it was, but for what had to be
        // written anew.
        #[test]
        fn keeps_what_it_does_not_own(text in mail(), kind in 0..4_usize) {
            let head = [
                "",
                "Content-Type: multipart/mixed; boundary=x\r\n",
                "Content-Type: multipart/alternative; boundary=x\r\n",
                "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
            ][kind];
            for footer in [ascii(), footer()] {
                let Ok(changed) = add(head.as_bytes(), text.as_bytes(), &footer) else { continue };
                let before = mime::leaves(head.as_bytes(), text.as_bytes()).unwrap();
                let mut own = head.to_owned();
                if !changed.fields.is_empty() {
                    own = changed.fields.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
                }
                // The same parts are there, in the same places.
                let after = mime::leaves(own.as_bytes(), &changed.body).unwrap();
                prop_assert_eq!(before.len(), after.len());
                let mut at = (0, 0);
                for (old, new) in before.iter().zip(&after) {
                    let start = |leaf: &Leaf| leaf.head.as_ref().map_or(leaf.content.start, |head| head.start);
                    prop_assert_eq!(&text.as_bytes()[at.0..start(old)], &changed.body[at.1..start(new)]);
                    let decode = |leaf: &Leaf, body: &[u8]| {
                        let bytes = Transfer::named(&leaf.encoding)?.decode(&body[leaf.content.clone()])?.into_owned();
                        Charset::named(&leaf.charset)?.decode(&bytes)
                    };
                    // What it said it still says.
                    if let (Some(was), Some(is)) = (decode(old, text.as_bytes()), decode(new, &changed.body)) {
                        let html = old.format == mime::Format::Html;
                        let kept = if html { was.find("</body>").unwrap_or(was.len()) } else { was.trim_end().len() };
                        prop_assert_eq!(&was[..kept], &is[..kept]);
                    }
                    at = (old.content.end, new.content.end);
                }
                prop_assert_eq!(&text.as_bytes()[at.0..], &changed.body[at.1..]);
            }
        }
    }
}
