//! Odd bodies.

use super::{Mail, Recipe};

/// How much of a body both MTAs put into a piece.
// include/libmilter/mfdef.h and Postfix milter8.c, MILTER_CHUNK_SIZE
const PIECE: usize = 65_535;

pub(super) const MAILS: &[Recipe] = &[
    ("no body", || Mail::new().without_body()),
    ("a body of one empty line", || Mail::new().body("\n")),
    ("a body without an end of line", || {
        Mail::new().raw_body("no end")
    }),
    ("NUL bytes in the body", || {
        Mail::new().body("a\0b\n\0\0\0\n")
    }),
    ("every byte in the body", || {
        let bytes: Vec<u8> = (0..=255).collect();
        Mail::new().body(bytes)
    }),
    ("bare CR and LF in the body", || {
        Mail::new().raw_body("a\rb\nc\n\rd\r\r\ne\r")
    }),
    ("a body of bare CR", || {
        Mail::new().raw_body("\r".repeat(1000))
    }),
    ("a body of bare LF", || {
        Mail::new().raw_body("\n".repeat(1000))
    }),
    ("dots and lines that look like mailboxes", || {
        Mail::new().body(".\n..\nFrom alice\n>From bob\nSubject: no header\n")
    }),
    ("a CRLF cut by the pieces of the body", || {
        Mail::new().raw_body(filled(PIECE - 1) + "\r\n" + &filled(PIECE - 2) + "\r\nend\r\n")
    }),
    ("a CR at the end of a piece of the body", || {
        Mail::new().raw_body(filled(PIECE - 1) + "\rend\r\n")
    }),
    ("a body of exactly one piece", || {
        Mail::new().raw_body(filled(PIECE - 2) + "\r\n")
    }),
    ("a body of one byte more than a piece", || {
        Mail::new().raw_body(filled(PIECE - 1) + "\r\n")
    }),
    ("a character cut by the pieces of the body", || {
        Mail::new().raw_body(filled(PIECE - 1) + "é\r\n")
    }),
    ("a line of 1 MB in the body", || {
        Mail::new().body("x".repeat(1_000_000))
    }),
    ("a body of 200,000 lines", || {
        Mail::new().body("line\n".repeat(200_000))
    }),
    ("nested a thousand times", || {
        let part = |n| {
            format!(
                "--b{n}\nContent-Type: multipart/mixed; boundary=b{}\n\n",
                n + 1
            )
        };
        let parts: Vec<String> = (0..1000).map(part).collect();
        multipart("b0", &parts.concat())
    }),
    ("a mail in a mail a hundred times", || {
        let inner = "Content-Type: message/rfc822\n\n".repeat(100);
        Mail::new()
            .header("Content-Type", "message/rfc822")
            .body(inner + "Subject: core\n\nend\n")
    }),
    ("a boundary that never comes", || {
        multipart("b", "only a preamble\n")
    }),
    ("a multipart that never ends", || {
        multipart("b", "--b\n\none\n--b\n\ntwo\n")
    }),
    ("an empty boundary", || {
        multipart("\"\"", "--\n\none\n----\n")
    }),
    ("boundaries that begin alike", || {
        multipart(
            "b",
            "--bb\n\none\n--b\n\ntwo\n--b-\n--b--x\n--b --\n--b--\nepilogue\n",
        )
    }),
    ("a boundary of odd bytes", || {
        multipart(
            "\"\\\"' ()+_,-./:=?\"",
            "--\"' ()+_,-./:=?\n\none\n--\"' ()+_,-./:=?--\n",
        )
    }),
    ("no boundary", || {
        Mail::new()
            .header("Content-Type", "multipart/mixed")
            .body("--\n\none\n----\n")
    }),
    ("ten thousand parts", || {
        multipart("b", &("--b\n\n\n".repeat(10_000) + "--b--\n"))
    }),
    ("parts without headers or bodies", || {
        multipart("b", "--b\n--b\n\n--b\nContent-Type: \n--b--")
    }),
    ("broken base64", || {
        multipart(
            "b",
            "--b\nContent-Transfer-Encoding: base64\n\n=aGV==sbG8\n!\u{e9}\n====\n--b--\n",
        )
    }),
    ("broken quoted-printable", || {
        multipart(
            "b",
            "--b\nContent-Transfer-Encoding: quoted-printable\n\n=ZZ=\n=4\n=\n--b--\n",
        )
    }),
    ("unknown charset and encoding", || {
        Mail::new()
            .header("MIME-Version", "9")
            .header("Content-Type", "text/html; charset=x-none; charset=\"utf-8")
            .header("Content-Transfer-Encoding", "x-none")
            .body(b"<p>caf\xe9")
    }),
    ("odd names of files", || {
        let names = [
            "filename=\"../../etc/passwd\"",
            "filename=\"a\\\"b\"",
            "filename=",
            "filename=\"",
            "filename*=utf-8''%ZZ%",
            "filename*0=a; filename*2=c; filename*0*=''%FF",
            "filename=\"=?utf-8?Q?a=00?=\"",
        ];
        let parts =
            names.map(|name| format!("--b\nContent-Disposition: attachment; {name}\n\nx\n"));
        multipart("b", &(parts.concat() + "--b--\n"))
    }),
];

fn filled(len: usize) -> String {
    "x".repeat(len)
}

fn multipart(boundary: &str, body: &str) -> Mail {
    Mail::new()
        .header("MIME-Version", "1.0")
        .header(
            "Content-Type",
            format!("multipart/mixed; boundary={boundary}"),
        )
        .body(body)
}
