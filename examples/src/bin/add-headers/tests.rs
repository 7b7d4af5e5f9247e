use milter_tower::testing::{Mail, MockMta, survives};
use milter_tower::{assert_body, assert_header, assert_no_header};

use super::*;

fn args(args: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from([&["add-headers"], args].concat())
}

fn filter_with(options: &[&str]) -> MessageFilter {
    filter(args(options).unwrap().take_apart().unwrap().1)
}

#[tokio::test]
async fn the_command_line_is_done() {
    let filter = filter_with(&[
        "--add",
        "X-Seen: yes",
        "--set=Subject: set",
        "--prepend",
        "X-Top: 1",
        "--remove",
        "X-A*",
        "--remove-forged",
        "mx.example.net",
    ]);
    let mail = Mail::new()
        .header("X-Abc", "1")
        .header("X-Seen", "no")
        .header("Authentication-Results", "mx.Example.net; spf=pass");
    for mut mta in [MockMta::postfix(filter.clone()), MockMta::sendmail(filter)] {
        let done = mta.deliver(&mail).await;
        assert_no_header!(done, "X-Abc");
        assert_no_header!(done, "Authentication-Results");
        assert_header!(done, "X-Top", "1");
        assert_header!(done, "Subject", "set");
        assert_header!(done, "X-Seen");
        assert_eq!(done.message.headers().get_all("X-Seen").count(), 2);
        assert_body!(done, mail.content());
    }
}

#[tokio::test(start_paused = true)]
async fn nasty_mails_do_no_harm() {
    survives(filter_with(&[
        "--remove",
        "x-*",
        "--set",
        "Subject: a",
        "--prepend",
        "X-A: b",
    ]))
    .await;
}

#[test]
fn a_file_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules");
    let rules = ["--add", "X-Line: 2", "--rules", path.to_str().unwrap()];
    let take_apart = || args(&rules).unwrap().take_apart();
    assert!(
        take_apart()
            .err()
            .unwrap()
            .to_string()
            .contains("rules: No such file")
    );
    std::fs::write(&path, "add X-File: 1\n").unwrap();
    let wanted = Rules::parse("add X-File: 1\nadd X-Line: 2").unwrap();
    assert_eq!(take_apart().unwrap().1, wanted);
    std::fs::write(&path, "\nadd\n").unwrap();
    assert!(
        take_apart()
            .err()
            .unwrap()
            .to_string()
            .contains("rules: line 2: ")
    );
}

#[test]
fn headers_that_no_mail_can_have_are_refused_at_the_start() {
    for options in [
        ["--add", "X-A"],
        ["--set", "X A: b"],
        ["--remove", ""],
        ["--remove-forged", ""],
    ] {
        assert_eq!(args(&options).err().unwrap().exit_code(), 2, "{options:?}");
    }
}
