use std::time::Duration;

use milter_tower::testing::{Mail, MockMta, MtaProfile, survives};
use milter_tower::{Request, Response, assert_accepted, assert_header, assert_refused};
use tower::Service;

use super::*;

/// The whole stack, as the command line says.
fn production(
    more: &[&str],
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + 'static
{
    let args = Args::parse_from(["production"].iter().chain(more));
    let rules = Rules::default();
    rules.set(
        Policy::parse("old@example.net 550 5.1.1 Bob has left\nstaff@example.net users").unwrap(),
    );
    let chain = filter::chain(&args.filter, &args.failing, rules);
    stack::stack(&args, "mx.example.org", |_: &str| (), chain).unwrap()
}

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

#[tokio::test]
async fn mail_is_judged_and_marked() {
    for profile in profiles() {
        let mut mta =
            MockMta::with_profile(profile.clone(), production(&["--strip-header", "X-Own"]));
        let mail = Mail::new()
            .header("X-Own", "yes")
            .header("X-Filtered-By", "somebody")
            .header("Authentication-Results", "mx.example.org; dkim=pass");
        let done = mta.deliver(&mail).await;
        assert_accepted!(done);
        assert_header!(done, "X-Filtered-By", "mx.example.org");
        for gone in ["X-Own", "Authentication-Results"] {
            assert!(!done.message.headers().contains(gone), "{done}");
        }

        let done = mta
            .deliver(mail.auth("PLAIN", "alice").to("staff@example.net"))
            .await;
        assert_accepted!(done);
        assert_header!(done, "X-Own", "yes");
        let results = "mx.example.org; auth=pass smtp.auth=alice";
        assert_header!(done, "Authentication-Results", results);

        for (to, text) in [
            ("staff@example.net", "own users"),
            ("Old@example.net", "Bob has left"),
        ] {
            let mut mta = MockMta::with_profile(profile.clone(), production(&[]));
            assert_refused!(mta.deliver(Mail::new().to(to)).await, 550, text);
        }
        let mut mta = MockMta::with_profile(profile, production(&[]));
        let done = mta
            .deliver(Mail::new().header("From", "a@b").header("From", "c@d"))
            .await;
        assert_refused!(done, 550, "one From");
    }
}

#[tokio::test]
async fn rules_can_be_tried_out() {
    let mut mta = MockMta::postfix(production(&["--dry-run", "1", "--strip-header", "X-Own"]));
    let done = mta
        .deliver(Mail::new().to("old@example.net").header("X-Own", "yes"))
        .await;
    assert_accepted!(done);
    assert_header!(done, "X-Own", "yes");
    // What all mail gets is no rule.
    assert_header!(done, "X-Filtered-By", "mx.example.org");
}

#[tokio::test]
async fn what_is_too_much_is_refused() {
    let mail = Mail::new;
    for (args, mail, code) in [
        (["--max-size", "1000"], mail().body("x".repeat(2000)), 552),
        (
            ["--max-recipients", "1"],
            mail().to("a@example.net").to("b@example.net"),
            452,
        ),
        (["--max-headers", "2"], mail(), 552),
        (["--max-header-bytes", "20"], mail(), 552),
    ] {
        let done = MockMta::sendmail(production(&args)).deliver(mail).await;
        let said = done.to_string();
        assert!(said.contains(&code.to_string()), "{args:?}: {said}");
        assert_accepted!(
            MockMta::sendmail(production(&[]))
                .deliver(Mail::new())
                .await
        );
    }
    let mut mta = MockMta::postfix(production(&["--client-rate", "2", "--user-rate", "1"]));
    for _ in 0..2 {
        assert_accepted!(mta.deliver(Mail::new()).await);
    }
    assert_refused!(mta.deliver(Mail::new()).await, 450, "slow down");
    let user = Mail::new().auth("PLAIN", "alice");
    assert_accepted!(mta.deliver(&user).await);
    assert_refused!(mta.deliver(&user).await, 450, "later");
}

#[tokio::test]
async fn a_milter_that_is_not_there_is_as_it_is_said() {
    let remote = ["--remote", "gone=unix:/nowhere/socket"];
    for (said, code) in [("tempfail", 451), ("reject", 550)] {
        let args = [&remote[..], &["--on-remote-failure", said]].concat();
        let done = MockMta::postfix(production(&args))
            .deliver(Mail::new())
            .await;
        assert_refused!(done, code);
    }
    let args = [&remote[..], &["--on-remote-failure", "accept"]].concat();
    assert_accepted!(
        MockMta::postfix(production(&args))
            .deliver(Mail::new())
            .await
    );
}

#[tokio::test(start_paused = true)]
async fn hard_mails_do_it_no_harm() {
    survives(production(&["--client-rate", "0"])).await;
}

#[test]
fn the_command_line() {
    let parse = |more: &[&str]| Args::try_parse_from(["production"].iter().chain(more));
    for wrong in [
        &["--timeout", "0"][..],
        &["--dry-run", "2"],
        &["--dry-run", "NaN"],
        &["--max-size", "0"],
        &["--remote", "inet:1@127.0.0.1"],
        &["--remote", "=inet:1@127.0.0.1"],
        &["--remote", "dkim=nowhere"],
        &["--status", "9100"],
        &["--log-addresses", "hash"],
        &["--hostname", "a b"],
        &["--strip-header", "a:"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    let args = parse(&[
        "--status",
        "off",
        "--timeout",
        "5",
        "--remote",
        "a=unix:/a,b=[::1]:25",
    ])
    .unwrap();
    assert_eq!(args.told.status, StatusAt(None));
    assert_eq!(args.failing.timeout, Duration::from_secs(5));
    assert_eq!(args.filter.remote.len(), 2);
}

/// Each option and its variable are in the table of the README.
#[test]
fn the_readme_tells_of_each_option() {
    use clap::CommandFactory;

    let readme = include_str!("README.md");
    let command = Args::command();
    let mut options = 0;
    for option in command.get_arguments() {
        let Some(variable) = option.get_env() else {
            continue;
        };
        let (name, variable) = (option.get_long().unwrap(), variable.to_str().unwrap());
        let is_told = |row: &str| {
            row.starts_with(&format!("| `--{name} ")) && row.contains(&format!("| `{variable}` |"))
        };
        let row = readme.lines().find(|row| is_told(row));
        let row = row.unwrap_or_else(|| panic!("--{name}, {variable}"));
        let default = option
            .get_default_values()
            .first()
            .and_then(|default| default.to_str());
        assert!(
            default.is_none_or(|default| row.contains(default)),
            "{row}: {default:?}"
        );
        options += 1;
    }
    assert_eq!(options, 26, "one of them lacks a variable");
}
