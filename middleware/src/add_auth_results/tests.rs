use std::sync::{Arc, Mutex};

use milter_tower::testing::{Delivery, Mail, MockMta, MtaProfile, survives};
use milter_tower::{
    Actions, BoxError, Chain, Event, Field, Header, Modification, ModificationKind, Needs, Request,
    Response, Stage, assert_accepted, assert_refused,
};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use self::parse::{Parsed, parse};
use super::*;
use crate::strip_auth_results::StripAuthResultsLayer;

mod parse;

const NAME: &str = "Authentication-Results";
const OWN: &str = "mx.example.org; spf=pass smtp.mailfrom=alice@example.net; dkim=none";

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// Checks at MAIL and at the end, where it gives this answer.
fn checks(
    answer: Response,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send {
    service_fn(move |request: Request| {
        let answer = answer.clone();
        async move {
            let session = request.session();
            Ok(match request.event() {
                Event::Negotiate(_) => Response::needs(
                    Needs::none()
                        .event(Stage::Mail)
                        .action(Actions::ADD_HEADERS | Actions::CHANGE_HEADERS),
                ),
                Event::Mail(sender) => {
                    AuthResult::new("spf", "pass")?
                        .with_property("smtp.mailfrom", sender.mailbox())?
                        .add_to(session);
                    Response::proceed()
                }
                Event::EndOfMessage(_) => {
                    AuthResult::new("dkim", "none")?.add_to(session);
                    answer
                }
                _ => Response::proceed(),
            })
        }
    })
}

fn silent()
-> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send {
    service_fn(async |_: Request| Ok(Response::proceed()))
}

fn layer() -> AddAuthResultsLayer {
    AddAuthResultsLayer::new("mx.example.org").unwrap()
}

fn forged() -> Mail {
    Mail::new()
        .from("alice@example.net")
        .header(NAME, "mx.example.org; spf=pass smtp.mailfrom=bank.example")
        .header(NAME, "mx.example.net; dkim=pass")
}

fn left(done: &Delivery) -> Vec<String> {
    let results = done.message.headers().get_all(NAME);
    let unfolded = results.map(|field| field.unfolded().into_owned());
    unfolded
        .map(|value| String::from_utf8(value).unwrap())
        .collect()
}

const OTHERS: &str = "mx.example.net; dkim=pass";

#[tokio::test]
async fn writes_what_filters_said_on_top() {
    for profile in profiles() {
        let mut mta = MockMta::with_profile(profile, layer().layer(checks(Response::accept())));
        for _ in 0..2 {
            let done = mta.deliver(Mail::new().from("alice@example.net")).await;
            assert_accepted!(done);
            assert_eq!(left(&done), [OWN], "{done}");
            let top = done.message.headers().iter().next().unwrap();
            assert!(
                top.is_named(NAME) && top.raw().starts_with(b" mx"),
                "{done}"
            );
        }
    }
}

/// A filter within that asks for leading space has the layer write it.
#[tokio::test]
async fn has_its_space_whatever_was_negotiated() {
    let filter = service_fn(async |_: Request| {
        Ok::<_, BoxError>(Response::needs(Needs::none().leading_space()))
    });
    for profile in profiles() {
        let mut mta = MockMta::with_profile(profile, layer().or_none().layer(filter));
        let done = mta.deliver(Mail::new()).await;
        let top = done.message.headers().iter().next().unwrap();
        assert_eq!(top.raw(), " mx.example.org; none", "{done}");
    }
}

/// Whichever way it is removed, the own one survives.
#[tokio::test]
async fn the_forged_one_goes_and_the_own_one_stays() {
    let strip = StripAuthResultsLayer::new("mx.example.org");
    for profile in profiles() {
        for within in [
            Response::accept(),
            Response::accept().delete_header(NAME, 1),
            Response::proceed().change_header(NAME, 9, "mx.example.com; none"),
        ] {
            let mut all = vec![OWN, OTHERS];
            if within
                .edits()
                .iter()
                .any(|edit| matches!(edit.kind(), ModificationKind::ChangeHeader { .. }))
            {
                all.push("mx.example.com; none");
            }
            let filter = checks(within);
            let mta = || profile.clone();
            let alone = layer().strip().layer(filter.clone());
            let outside = strip.layer(layer().layer(filter.clone()));
            let inside = layer().layer(strip.layer(filter));
            let left_by = [
                left(&MockMta::with_profile(mta(), alone).deliver(forged()).await),
                left(
                    &MockMta::with_profile(mta(), outside)
                        .deliver(forged())
                        .await,
                ),
                left(&MockMta::with_profile(mta(), inside).deliver(forged()).await),
            ];
            all.sort_unstable();
            for mut left in left_by {
                assert_eq!(left[0], OWN, "it is on top");
                left.sort();
                assert_eq!(left, all, "{}", profile.name());
            }
        }
    }
}

#[tokio::test]
async fn says_none_only_if_asked_to() {
    for profile in profiles() {
        let mut mta = MockMta::with_profile(profile.clone(), layer().layer(silent()));
        let done = mta.deliver(Mail::new()).await;
        assert!(done.edits.is_empty(), "{done}");
        let filter = layer().or_none().layer(silent());
        let mut mta = MockMta::with_profile(profile.clone(), filter);
        assert_eq!(
            left(&mta.deliver(Mail::new()).await),
            ["mx.example.org; none"]
        );

        let filter = layer().strip().layer(checks(Response::reject()));
        let mut mta = MockMta::with_profile(profile, filter);
        let done = mta.deliver(forged()).await;
        assert_refused!(done);
        assert!(done.edits.is_empty(), "{done}");
    }
}

#[tokio::test]
async fn has_what_the_members_of_a_chain_said() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let reader = service_fn(move |request: Request| {
        if let Event::EndOfMessage(_) = request.event() {
            let spf = AuthResults::of(request.session());
            let spf = spf.by("SPF").map(AuthResult::to_string);
            log.lock().unwrap().extend(spf);
        }
        std::future::ready(Ok::<_, BoxError>(Response::proceed()))
    });
    let chain = Chain::new()
        .with("checks", checks(Response::accept()))
        .with("reads", reader);
    let mut mta = MockMta::postfix(layer().layer(chain));
    let done = mta.deliver(Mail::new().from("alice@example.net")).await;
    assert_eq!(left(&done), [OWN], "{done}");
    assert_eq!(
        *seen.lock().unwrap(),
        ["spf=pass smtp.mailfrom=alice@example.net"]
    );
}

#[tokio::test]
async fn bears_what_mails_bring() {
    survives(layer().strip().or_none().layer(checks(Response::accept()))).await;
}

#[test]
fn what_cannot_be_written_is_refused_at_once() {
    for id in ["", " mx", "mx\n", "b\u{fc}cher.example", &"a".repeat(254)] {
        assert!(AddAuthResultsLayer::new(id).is_err(), "{id:?}");
    }
    for bad in [
        "",
        "a b",
        "a-",
        "a;b",
        "a=b",
        "\u{fc}",
        "a\n",
        &"a".repeat(65),
    ] {
        assert!(AuthResult::new(bad, "pass").is_err(), "{bad:?}");
        assert!(AuthResult::new("spf", bad).is_err(), "{bad:?}");
        let result = AuthResult::new("x-a", "pass").unwrap();
        for name in [
            format!("smtp.{bad}"),
            format!("{bad}.d"),
            bad.to_owned(),
            "a.b.c".into(),
        ] {
            assert!(
                result.clone().with_property(&*name, "v").is_err(),
                "{name:?}"
            );
        }
    }
}

#[test]
fn values_are_written_as_their_grammar_has_them() {
    for (value, written) in [
        ("example.net", "example.net"),
        ("a@example.net", "a@example.net"),
        ("@example.net", "@example.net"),
        ("a+b=c@example.net", "a+b=c@example.net"),
        ("", "\"\""),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "\"2001:db8::1\""),
        ("a b@example.net", "\"a b@example.net\""),
        ("\"a\"@example.net", "\"\\\"a\\\"@example.net\""),
        ("a@[192.0.2.1]", "\"a@[192.0.2.1]\""),
        ("a@localhost", "\"a@localhost\""),
        ("a.@example.net", "\"a.@example.net\""),
        ("x;y", "\"x;y\""),
        ("x; dkim=pass", "\"x; dkim=pass\""),
        ("x\r\nBcc: y", "\"x??Bcc: y\""),
        ("b\u{fc}@example.net", "\"b\u{fc}@example.net\""),
    ] {
        let result = AuthResult::new("a", "b").unwrap();
        let result = result.with_property("c.d", value).unwrap();
        assert_eq!(result.to_string(), format!("a=b c.d={written}"));
    }
    let result = AuthResult::new("a", "b").unwrap();
    let result = result.with_property("c.d", b"\xff").unwrap();
    assert_eq!(result.property("C.D"), Some("?"));
    let result = result.with_property("c.e", [b'x'; 513]).unwrap();
    assert_eq!(result.properties().count(), 1);
}

fn keyword() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9-]{0,12}[a-zA-Z0-9]"
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        "[a-z.@\"\\\\ ();=,\r\n\t-]{0,40}".prop_map(String::into_bytes),
        "[a-z;=/(.]{1,6}".prop_map(String::into_bytes),
        "[a-z0-9.+]{1,30}@[a-z0-9.-]{1,60}".prop_map(String::into_bytes),
        "( [a-z]{1,90}){1,20}".prop_map(String::into_bytes),
    ]
}

fn result() -> impl Strategy<Value = AuthResult> {
    let property = (keyword(), keyword(), text());
    let properties = prop::collection::vec(property, 0..4);
    (keyword(), keyword(), prop::option::of(text()), properties).prop_map(
        |(method, result, reason, properties)| {
            let mut result = AuthResult::new(method, result).unwrap();
            if let Some(reason) = reason {
                result = result.with_reason(reason);
            }
            properties
                .into_iter()
                .fold(result, |result, (kind, name, value)| {
                    result
                        .with_property(format!("{kind}.{name}"), value)
                        .unwrap()
                })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(
        id in prop_oneof![Just("mx.example.org".to_owned()), "[!-~]([ -~]{0,40}[!-~])?"],
        results in prop::collection::vec(result(), 0..6),
    ) {
        let results: AuthResults = results.into_iter().collect();
        prop_assume!(AddAuthResultsLayer::new(&*id).is_ok());
        let value = write::value(&id, &results);

        // It is a header that is sent as it is, in lines that are as they should be.
        let edit = Modification::insert_header(0, NAME, &value).unwrap();
        let ModificationKind::InsertHeader { value: sent, .. } = edit.kind() else { panic!() };
        prop_assert_eq!(sent, value.as_bytes());
        let all = results.iter().flat_map(write::words);
        let longest = all.map(|word| word.chars().count()).max().unwrap_or(0);
        let whole = format!("{NAME}: {value}");
        for (n, line) in whole.split('\n').enumerate() {
            prop_assert!(!line.chars().any(char::is_control) && line.len() <= 998, "{value:?}");
            prop_assert!(n == 0 || line.starts_with(' ') && !line.starts_with("  "), "{value:?}");
            // A word that is longer has a line of its own.
            let first = if n == 0 { NAME.len() + 5 + 2 * id.len() } else { 0 };
            let most = 78.max(longest + 2).max(first);
            prop_assert!(line.chars().count() <= most, "{value:?}");
        }

        // Read by the rules it says what the results say.
        let header = Header::new(NAME, value.clone());
        let unfolded = Field::from(&header).unfolded().into_owned();
        let read = parse(std::str::from_utf8(&unfolded).unwrap());
        prop_assert_eq!(read, Some(Parsed::of(&id, &results)), "{:?}", value);

        // The parser that strips forged ones takes it for ours.
        prop_assert!(Field::from(&header).may_claim_auth_results(&id), "{:?}", value);
        prop_assert!(!Field::from(&header).may_claim_auth_results("mx.elsewhere.example"));
    }
}

#[test]
fn lines_have_78_columns_at_the_most() {
    let value = |width| {
        let result = AuthResult::new("a", "b").unwrap();
        let result = result.with_reason("r".repeat(width));
        let results = AuthResults::from_iter([result.clone(), result]);
        write::value("mx.example.org", &results)
    };
    let first = |width| {
        value(width)
            .split('\n')
            .next()
            .map(|line| NAME.len() + 2 + line.len())
    };
    // `Authentication-Results: mx.example.org; a=b reason=rrr;`
    assert_eq!(first(26), Some(78));
    assert_eq!(first(27), Some(43), "{}", value(27));
}

#[test]
fn is_bounded() {
    let value = "\"".repeat(512);
    let results: AuthResults = (0..200)
        .map(|n| {
            let result = AuthResult::new("dkim", format!("r{n}")).unwrap();
            result.with_property("header.d", &value).unwrap()
        })
        .collect();
    assert_eq!(results.len(), 100);
    let value = write::value("mx.example.org", &results);
    assert!(
        (15_000..=16 * 1024).contains(&value.len()),
        "{}",
        value.len()
    );
    let read = parse(&value.replace('\n', "")).unwrap();
    assert!(read.results.len() > 10);

    // However many properties one has, it is written.
    for value in ["", "\"", &*"\"".repeat(512)] {
        let one = AuthResult::new("a", "b").unwrap();
        let one = one.with_reason("\"".repeat(256));
        let one = (0..3000).fold(one, |one, _| one.with_property("c.d", value).unwrap());
        let text = write::value("mx.example.org", &AuthResults::from_iter([one]));
        let read = parse(&text.replace('\n', "")).unwrap();
        assert_eq!(read.results.len(), 1, "{}", text.len());
    }
}
