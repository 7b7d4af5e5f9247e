//! What does not fit does not compile, and the compiler's message says what to do.
//!
//! The compiler is run on small programs against the library as it was built for this test. Pieces
//! of our own messages are looked for and nothing else, since compilers differ in the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Where the library and what it needs lie: beside this test.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    test.parent().expect("a folder").to_owned()
}

/// The library as it was built last, which is at the latest for this test.
fn library() -> Option<PathBuf> {
    let libraries = fs::read_dir(folder()).ok()?.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libmilter_tower-") && name.ends_with(".rlib")
    });
    let built = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|data| data.modified());
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    Some(libraries.max_by_key(built)?.path())
}

/// Whether a program compiles, and what the compiler says.
fn compile(library: &Path, name: &str, body: &str) -> (bool, String) {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = out.join(format!("{name}.rs"));
    let program = format!(
        "#![allow(unused_imports)]\n\
         use milter_tower::*;\n\
         use milter_tower::router::*;\n\
         use milter_tower::verdict::*;\n\
         {body}\n"
    );
    fs::write(&source, program).expect("written");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let ended = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata"])
        .arg("--extern")
        .arg(format!("milter_tower={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", folder().display()))
        .arg("-o")
        .arg(out.join(format!("{name}.rmeta")))
        .arg(&source)
        .output()
        .expect("a compiler");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended.status.success(), said)
}

/// The library, if the compiler at hand can use it.
fn usable_library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = LIBRARY.get_or_init(|| {
        let reason = match library() {
            None => "the library was not found beside the test".to_owned(),
            Some(library) => {
                let (compiles, said) = compile(&library, "usable", "pub fn usable(_: Router) {}");
                if compiles {
                    return Some(library);
                }
                said
            }
        };
        let set =
            |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let must_run = set("CI") || set("MILTER_TESTS_REQUIRE");
        assert!(!must_run, "the compiler cannot use the library: {reason}");
        println!("skipped: the compiler cannot use the library: {reason}");
        None
    });
    found.as_deref()
}

fn compiles(name: &str, body: &str) {
    if let Some(library) = usable_library() {
        let (compiles, said) = compile(library, name, body);
        assert!(compiles, "{name}: {said}");
    }
}

/// The program does not compile, and the message has these pieces.
fn fails(name: &str, body: &str, pieces: &[&str]) {
    let Some(library) = usable_library() else {
        return;
    };
    let (compiles, said) = compile(library, name, body);
    assert!(!compiles, "{name} compiles");
    for piece in pieces {
        assert!(said.contains(piece), "{name}: no {piece:?} in\n{said}");
    }
}

#[test]
fn what_fits_compiles() {
    compiles(
        "what_fits",
        "async fn header(_: Header, _: Session, State(_): State<u8>) -> Result<(), BoxError> { Ok(()) }
         pub fn filter() -> Router<u8> {
             Router::with_state(1)
                 .on_connect(async |_: std::sync::Arc<Connect>| Accept)
                 .on_mail(|_: Sender| async { Discard })
                 .on_rcpt(|_: Recipient, _: Option<ClientIp>| async { None::<SmtpReply> })
                 .on_header(header)
                 .on_body(async || Skip)
                 .on_end_of_message(async |_: Recipients| Response::accept())
                 .on_close(async || ())
         }",
    );
}

#[test]
fn an_argument_that_is_not_there() {
    fails(
        "argument",
        "pub fn f() -> Router { Router::new().on_mail(async |_: Recipient| ()) }",
        &[
            "a handler of `",
            "cannot take `",
            "Recipient` is not there at",
        ],
    );
    fails(
        "no_argument",
        "pub fn f() -> Router { Router::new().on_rcpt(async |_: u32| ()) }",
        &["cannot take `u32`", "documentation of `FromRequest`"],
    );
    fails(
        "by_reference",
        "pub fn f() -> Router { Router::new().on_rcpt(async |_: &Recipient| ()) }",
        &["arguments are taken by value"],
    );
}

#[test]
fn a_fact_that_is_not_known_yet() {
    for (name, event, argument, message) in [
        ("sender", "on_connect", "Sender", "there is no message at `"),
        (
            "sender_outside",
            "on_unknown",
            "Sender",
            "take `Session` there",
        ),
        (
            "recipients",
            "on_mail",
            "Recipients",
            "no recipients are known at `",
        ),
        ("helo", "on_connect", "Helo", "no HELO is known yet at `"),
        (
            "client",
            "on_negotiate",
            "ClientIp",
            "no client is known yet at `",
        ),
    ] {
        let body =
            format!("pub fn f() -> Router {{ Router::new().{event}(async |_: {argument}| ()) }}");
        fails(name, &body, &[message]);
    }
}

#[test]
fn an_answer_that_is_not_legal() {
    for (event, answer) in [
        ("on_connect", "Discard"),
        ("on_helo", "Discard"),
        ("on_unknown", "Accept"),
        ("on_unknown", "Discard"),
        ("on_header", "Skip"),
        ("on_end_of_message", "Skip"),
    ] {
        let body = format!("pub fn f() -> Router {{ Router::new().{event}(async || {answer}) }}");
        let message = format!("{answer}` is no answer at `");
        fails(
            &format!("{event}_{answer}"),
            &body,
            &[&message, "`Skip` in the body only"],
        );
    }
    fails(
        "no_answer",
        "pub fn f() -> Router { Router::new().on_rcpt(async || 5_u32) }",
        &[
            "`u32` is no answer at `",
            "return `()`, `Response`, `SmtpReply`",
        ],
    );
}

#[test]
fn an_answer_that_nobody_waits_for() {
    for event in ["on_abort", "on_message_end", "on_close"] {
        let body = format!(
            "pub fn f() -> Router {{ Router::new().{event}(async || Response::reject()) }}"
        );
        fails(event, &body, &["nobody waits for a verdict at `"]);
        let body = format!("pub fn f() -> Router {{ Router::new().{event}(async || Reject) }}");
        fails(
            &format!("{event}_typed"),
            &body,
            &["where something ended nobody waits"],
        );
    }
}

#[test]
fn what_is_no_handler() {
    fails(
        "not_async",
        "pub fn f() -> Router { Router::new().on_rcpt(|_: Recipient| Response::reject()) }",
        &["is not a handler", "a handler is an async function"],
    );
    fails(
        "not_send",
        "pub fn f() -> Router { Router::new().on_rcpt(async || {
             let kept = std::rc::Rc::new(());
             std::future::ready(()).await;
             drop(kept);
         }) }",
        &["cannot be sent between threads safely"],
    );
}

#[test]
fn a_state_that_the_router_does_not_have() {
    fails(
        "state",
        "pub fn f() -> Router { Router::new().on_rcpt(async |_: State<u8>| ()) }",
        &[
            "the router's state `()` has no `u8`",
            "`Router::with_state`",
        ],
    );
}

#[test]
fn a_filter_that_fits() {
    compiles(
        "filter_fits",
        "pub struct F(pub u32);
         impl Filter for F {
             type Message = Vec<u8>;
             fn needs(&self) -> milter_tower::Needs {
                 milter_tower::Needs::none().event(milter_tower::Stage::Rcpt)
             }
             async fn rcpt(&mut self, message: &mut Vec<u8>, rcpt: &Recipient, request: &Request)
                 -> Result<Response, BoxError>
             {
                 self.0 += 1;
                 std::future::ready(()).await;
                 message.extend_from_slice(rcpt.mailbox().as_bytes());
                 if request.session().client_ip().is_none() {
                     Err(SmtpReply::reject(\"Who are you?\"))?;
                 }
                 Ok(Response::proceed())
             }
         }
         pub fn service() -> FilterService<F> { filter(|| F(0)) }",
    );
}

#[test]
fn a_handler_of_messages() {
    compiles(
        "message_fits",
        "use milter_tower::message::*;
         async fn handle(mut mail: Message) -> Result<Message, SmtpReply> {
             mail.headers_mut().append(\"X-A\", \"b\");
             Ok(mail)
         }
         pub fn f() -> MessageFilter {
             message(handle).check_rcpt(async |_: Recipient, _: Session| None::<SmtpReply>)
         }
         pub fn g() -> MessageFilter<Incoming> {
             message_streaming(async |mail: Message<Incoming>| Some(mail.accept()))
         }
         pub fn h() -> MessageFilter { message(blocking(|mail: Message| mail)) }",
    );
    fails(
        "message_answer",
        "use milter_tower::message::*;
         pub fn f() -> MessageFilter { message(async |_: Message| 5_u32) }",
        &[
            "`u32` is no answer at `",
            "return `()`, `Response`, `SmtpReply`",
            "in `message` also the `Message`",
        ],
    );
    fails(
        "message_skip",
        "use milter_tower::message::*;
         pub fn f() -> MessageFilter { message(async |_: Message| Skip) }",
        &["Skip` is no answer at `", "`Skip` in the body only"],
    );
    // What a filter reads while it arrives is not there as a whole.
    fails(
        "message_body",
        "use milter_tower::message::*;
         pub fn f(mail: &Message<Incoming>) -> u64 { mail.body().len() }",
        &["no method named `body`"],
    );
}
