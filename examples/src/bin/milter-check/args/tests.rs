use clap::CommandFactory;
use milter_tower::macros::names;

use super::*;

fn parse(args: &[&str]) -> Args {
    Args::try_parse_from([&["milter-check", "127.0.0.1:1"], args].concat()).unwrap()
}

#[test]
fn the_command_line_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn macros_are_given_with_or_without_stage_and_braces() {
    let given = |text| {
        let given = given_macro(text).unwrap();
        (given.stage, given.name, given.value)
    };
    let expected = |stage, name: &str, value: &str| (stage, name.into(), value.into());
    assert_eq!(given("j=mx"), expected(MacroStage::Connect, "j", "mx"));
    let author = expected(MacroStage::Mail, "{auth_author}", "a=b:c");
    assert_eq!(given("mail:auth_author=a=b:c"), author);
    assert_eq!(given("mail:{auth_author}=a=b:c"), author);
    assert_eq!(given("eom:x="), expected(MacroStage::EndOfMessage, "x", ""));
    for wrong in ["j", "=x", "late:j=x", "mail:=x", "{}=x", "a b=x"] {
        assert!(given_macro(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn clients_are_given_in_any_notation() {
    let at = |text: &str| client(text).unwrap().to_string();
    assert_eq!(
        at("192.0.2.7"),
        client("192.0.2.7:50025").unwrap().to_string()
    );
    assert_eq!(client("::1").unwrap(), client("[::1]").unwrap());
    assert_eq!(client("[::1]:25").unwrap().port(), Some(25));
    assert_eq!(client("unknown").unwrap(), ClientAddr::Unknown);
    assert!(matches!(client("/run/x"), Ok(ClientAddr::Unix(_))));
    assert!(client("client.example").is_err());
}

#[test]
fn times_are_seconds() {
    assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["0", "-1", "nan", "inf", "1e9", "ten", ""] {
        assert!(seconds(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_the_client_is_goes_into_the_mail() {
    let args = parse(&[
        "--client",
        "192.0.2.7",
        "--helo",
        "me",
        "--tls",
        "TLSv1.3",
        "--auth",
        "alice",
        "--macro",
        "mail:auth_author=bob",
    ]);
    let mail = args.send(Mail::new());
    assert_eq!(mail.greeting().unwrap().name(), "me");
    assert_eq!(mail.connection().client().to_string(), "192.0.2.7");
    let known = |stage, name: &str| {
        let mut all = mail.macros(stage);
        all.find(|(has, _)| *has == name)
            .map(|(_, value)| value.to_string())
    };
    assert_eq!(
        known(MacroStage::Helo, names::CIPHER_BITS).as_deref(),
        Some("256")
    );
    assert_eq!(
        known(MacroStage::Mail, names::AUTH_TYPE).as_deref(),
        Some("PLAIN")
    );
    assert_eq!(
        known(MacroStage::Mail, names::AUTH_AUTHOR).as_deref(),
        Some("bob")
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    for args in [
        &["--cipher", "x"][..],
        &["--helo", "x", "--no-helo"],
        &["-c", "4"],
        &["--bench", "0"],
        &["--bench", "5", "--repeat", "2"],
        &["--json", "--quiet"],
        &["--auth-mechanism", "LOGIN"],
    ] {
        let args = [&["milter-check", "127.0.0.1:1"], args].concat();
        assert!(Args::try_parse_from(&args).is_err(), "{args:?}");
    }
}
