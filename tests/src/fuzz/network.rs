//! A mail server that calls a milter over a connection, and a milter that sends what it likes.
//!
//! The input is three lines: the settings (`s` Sendmail's time-outs, `x` strict, `r` small frames, `b` few
//! bytes of edits, `e` an empty list of macros means the own, `a` `j` `d` `q` what becomes of mail when
//! it fails, `p` a pipe of few bytes); what the milter does for each command that it gets, the offer
//! first, up to a full stop; and the mail server's calls:
//!
//! | the milter | |
//! | --- | --- |
//! | letters | what the filter sends in the target `client` |
//! | `w` `W` | waits for a second, for an hour |
//! | `-` | sends in pieces of one byte from here on |
//! | `z` | closes the connection |
//!
//! | the mail server | |
//! | --- | --- |
//! | `C` … `E` `A` `K` | the call, as in the target `connection` |
//! | `S` | a body from a reader, of any length |
//! | `D` | delivers a whole mail |

use std::time::Duration;

use bytes::BytesMut;
use milter_core::client::{EmptyList, Failure};
use milter_core::{Command, FilterCodec, MAX_PAYLOAD, Offer, Verdict};
use milter_tower::client::{
    Answer, Client, ClientError, ClientErrorKind, Connection, DefaultAction, Fate, Mail, Timeouts,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Decoder, Encoder};

use super::client::replies;
use super::connection::command;
use super::input::Choices;

/// The calls.
const CALLS: &[u8] = b"CHMRTULNBEAKSDMRTLNBED";
/// Most of them.
const MOST: usize = 60;
/// What the milter does for one command, most letters of it.
const MOST_ACTS: usize = 30;
/// Longer than any call takes: each frame in time, and no more of them than the script has.
const PATIENCE: Duration = Duration::from_secs(400 * 200);

/// The network client before a milter that answers legally or not, late or never, in pieces or
/// not at all. Whatever it does:
///
/// - Every call ends, and what the milter gets are whole commands, the offer first and once.
/// - Once it failed, every call says so, and nothing more is sent.
/// - An answer is one that its stage allows, within the agreement.
/// - Mail whose milter failed is treated as was configured.
///
/// # Panics
///
/// If something is wrong.
pub fn network(data: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(run(data));
}

async fn run(data: &[u8]) {
    let mut input = Choices::new(data);
    let settings = Settings::read(&mut Choices::new(input.line()));
    let acts = input.line().to_vec();
    let (io, milter) = tokio::io::duplex(settings.pipe);
    let milter = tokio::spawn(play(milter, acts));
    let opened = timeout(PATIENCE, settings.client.over(io)).await;
    match opened.expect("the negotiation ends") {
        Ok(connection) => calls(connection, &settings, &mut input).await,
        Err(error) => is_failure(&error),
    }
    // Whose client has left it may have its script to play all the same.
    let got = timeout(PATIENCE * 100, milter).await;
    let got = got.expect("the milter ends");
    are_legal(&got.expect("the milter does not panic"));
}

struct Settings {
    client: Client<()>,
    on_failure: DefaultAction,
    strict: bool,
    pipe: usize,
}

impl Settings {
    fn read(line: &mut Choices<'_>) -> Self {
        let mut client = Client::without_address();
        let mut settings = Self {
            client: client.clone(),
            on_failure: DefaultAction::default(),
            strict: false,
            pipe: 1 << 20,
        };
        while !line.is_empty() {
            let letter = line.letter(b"sxrbeajdqp");
            client = match letter {
                b's' => client.timeouts(Timeouts::sendmail()),
                b'x' => {
                    settings.strict = true;
                    client.strict(true)
                }
                b'r' => client.max_read(200),
                b'b' => client.max_edit_bytes(300),
                b'e' => client.empty_list(EmptyList::MtasOwn),
                b'p' => {
                    settings.pipe = 100;
                    client
                }
                _ => {
                    settings.on_failure = match letter {
                        b'a' => DefaultAction::Accept,
                        b'j' => DefaultAction::Reject,
                        b'd' => DefaultAction::Shutdown,
                        _ => DefaultAction::Quarantine,
                    };
                    client.on_failure(settings.on_failure)
                }
            };
        }
        settings.client = client;
        settings
    }
}

/// The mail server.
async fn calls(
    mut connection: Connection<DuplexStream>,
    settings: &Settings,
    input: &mut Choices<'_>,
) {
    connection.set_macro("i", "4XyZ");
    let mut failed: Option<Failure> = None;
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let letter = input.letter(CALLS);
        let call = call(&mut connection, letter, settings, input);
        let called = timeout(PATIENCE, call).await.expect("each call ends");
        if let Err(error) = &called {
            if let Some(failure) = error.failure() {
                assert_eq!(failed.get_or_insert_with(|| failure.clone()), failure);
                assert!(error.is_fatal());
            }
        } else if letter != b'D' {
            assert!(
                failed.is_none() || letter == b'A',
                "{letter} of one that failed"
            );
        }
        assert_eq!(connection.failure(), failed.as_ref());
    }
    let quit = timeout(PATIENCE, connection.quit()).await.expect("it ends");
    assert!(quit.is_ok() || quit.is_err_and(|error| error.failure().is_some()));
}

async fn call(
    connection: &mut Connection<DuplexStream>,
    letter: u8,
    settings: &Settings,
    input: &mut Choices<'_>,
) -> Result<(), ClientError> {
    let answer = match letter {
        b'A' => return connection.abort().await,
        b'K' => return connection.quit_new_connection().await,
        b'D' => return deliver(connection, settings, input).await,
        b'S' => {
            let body = vec![b'x'; usize::from(input.byte()) * 1_000];
            connection.body_from(&body[..]).await
        }
        letter => match command(letter, Offer::V6, input) {
            Command::Connect(client) => connection.connect(client).await,
            Command::Helo(helo) => connection.helo(helo.name().to_vec()).await,
            Command::Mail(sender) => connection.mail(sender).await,
            Command::Rcpt(recipient) => connection.rcpt(recipient).await,
            Command::Data => connection.data().await,
            Command::Unknown(line) => connection.unknown(line.line().to_vec()).await,
            Command::Header(header) => connection.header(header).await,
            Command::EndOfHeaders => connection.end_of_headers().await,
            Command::Body(piece) => connection.body(piece).await,
            _ => connection.end().await,
        },
    };
    let answer = answer.inspect_err(is_said)?;
    is_allowed(&answer, connection, settings.strict);
    Ok(())
}

/// A whole mail.
async fn deliver(
    connection: &mut Connection<DuplexStream>,
    settings: &Settings,
    input: &mut Choices<'_>,
) -> Result<(), ClientError> {
    let mail = Mail::new().to("b@example.net").to("c@example.net");
    let mail = match input.below(4) {
        0 => mail.body("hi"),
        1 => mail.body(vec![b'x'; 100_000]),
        2 => mail.header("Subject", "a\n\tb"),
        _ => mail,
    };
    let outcome = connection.deliver(&mail).await;
    let Some(error) = outcome.failure.clone() else {
        return Ok(());
    };
    if error.failure().is_none() {
        // What the calls before left open.
        assert!(
            matches!(error.kind(), ClientErrorKind::Misused(_)),
            "{error}"
        );
    }
    let passes = matches!(
        settings.on_failure,
        DefaultAction::Accept | DefaultAction::Quarantine
    );
    assert_eq!(outcome.fate == Fate::Accepted, passes, "{error}");
    let holds = settings.on_failure == DefaultAction::Quarantine;
    assert_eq!(outcome.quarantine().is_some(), holds);
    assert!(outcome.edits.is_empty(), "half of what it wanted");
    Err(error)
}

fn is_allowed(answer: &Answer, connection: &Connection<DuplexStream>, strict: bool) {
    let verdict = &answer.verdict;
    // What was said before holds where there is nothing more to say.
    let holds = connection.decided() == Some(verdict);
    let allowed = holds || verdict.is_allowed_at(answer.stage);
    assert!(
        allowed || *verdict == Verdict::Skip && !strict,
        "{answer:?}"
    );
    for edit in &answer.edits {
        assert_eq!(connection.agreement().permits(edit), Ok(()));
    }
}

fn is_failure(error: &ClientError) {
    assert!(error.failure().is_some() && error.is_fatal(), "{error}");
    is_said(error);
}

/// Whether the error can be told to whoever runs the mail server.
fn is_said(error: &ClientError) {
    let text = error.to_string();
    assert!(
        text.starts_with("milter ") && !text.contains('\n'),
        "{text:?}"
    );
}

/// The milter: gives what it got.
async fn play(io: DuplexStream, acts: Vec<u8>) -> Vec<Command> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut acts = acts.split(|&byte| byte == b'.');
    let mut codec = FilterCodec::new();
    codec.set_max_read(MAX_PAYLOAD);
    let (mut input, mut got) = (BytesMut::new(), Vec::new());
    let mut piece = usize::MAX;
    loop {
        let size = reader
            .read_buf(&mut input)
            .await
            .expect("memory can be read");
        while let Some(command) = codec.decode(&mut input).expect("readable") {
            let is_due = !matches!(
                command,
                Command::Macros(_) | Command::Abort | Command::Quit | Command::QuitNewConnection
            );
            let offered = matches!(command, Command::Negotiate(_));
            got.push(command);
            if !is_due {
                continue;
            }
            let act = acts.next().unwrap_or(if offered { b"o" } else { b"c" });
            let mut act = Choices::new(act);
            for _ in 0..MOST_ACTS {
                if act.is_empty() {
                    break;
                }
                let mut wire = BytesMut::new();
                match act.byte() {
                    b'w' => sleep(Duration::from_secs(1)).await,
                    b'W' => sleep(Duration::from_secs(3600)).await,
                    b'-' => piece = 1,
                    b'z' => {
                        let _ = writer.shutdown().await;
                        // What still comes is read.
                    }
                    letter => {
                        let mut codec = FilterCodec::new();
                        codec.set_max_write(MAX_PAYLOAD);
                        send(letter, &mut act, &mut codec, &mut wire);
                    }
                }
                for part in wire.chunks(piece) {
                    // A client that has left reads no more.
                    let _ = writer.write_all(part).await;
                    if piece == 1 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        if size == 0 {
            assert!(input.is_empty() || input.len() < MAX_PAYLOAD);
            return got;
        }
    }
}

fn send(letter: u8, act: &mut Choices<'_>, codec: &mut FilterCodec, wire: &mut BytesMut) {
    match letter {
        b'X' => {
            let code = act.byte();
            let payload = act.text();
            let length = u32::try_from(payload.len() + 1).expect("small");
            wire.extend_from_slice(&length.to_be_bytes());
            wire.extend_from_slice(&[code]);
            wire.extend_from_slice(payload);
        }
        b'G' => wire.extend_from_slice(act.text()),
        letter => {
            for reply in replies(letter, Offer::V6, act) {
                codec.encode(&reply, wire).expect("fits");
            }
        }
    }
}

/// The offer comes first and once, the goodbye last.
fn are_legal(got: &[Command]) {
    for (at, command) in got.iter().enumerate() {
        assert_eq!(at == 0, matches!(command, Command::Negotiate(_)), "{got:?}");
        assert!(*command != Command::Quit || at + 1 == got.len(), "{got:?}");
    }
}
