use std::fs;
use std::path::Path;

use milter_tower::testing::{Mail, MockMta, nasty_mails, survives};
use milter_tower::{assert_accepted, assert_refused};
use tempfile::TempDir;

use super::*;

fn maildir() -> (TempDir, Maildir) {
    let dir = tempfile::tempdir().unwrap();
    let maildir = Maildir::open(dir.path()).unwrap();
    (dir, maildir)
}

fn files(dir: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn an_accepted_mail_is_kept() {
    let (dir, maildir) = maildir();
    let mail = Mail::new()
        .without_headers()
        .raw_header("Subject", "  two\n\tlines")
        .from("<>")
        .to("a@example.net")
        .to("b@example.net")
        .body("one\r\n.\r\n");
    for mut mta in [
        MockMta::postfix(filter(maildir.clone())),
        MockMta::sendmail(filter(maildir)),
    ] {
        assert_accepted!(mta.deliver(&mail).await);
        let kept = files(dir.path(), "new");
        assert_eq!(kept.len(), 1);
        let text = fs::read_to_string(&kept[0]).unwrap();
        assert_eq!(
            text,
            "Return-Path: <>\n\
             X-Original-To: <a@example.net>\n\
             X-Original-To: <b@example.net>\n\
             Subject:  two\n\tlines\n\
             \n\
             one\n.\n"
        );
        fs::remove_file(&kept[0]).unwrap();
    }
}

#[tokio::test]
async fn an_address_is_one_line() {
    let (dir, maildir) = maildir();
    let mail = Mail::new()
        .from("a\nSubject: forged")
        .to("b\r\n\r\n@example.net");
    assert_accepted!(MockMta::postfix(filter(maildir)).deliver(mail).await);
    let text = fs::read_to_string(&files(dir.path(), "new")[0]).unwrap();
    let wanted = "Return-Path: <a?Subject: forged>\nX-Original-To: <b????@example.net>\n";
    assert!(text.starts_with(wanted), "{text}");
}

#[tokio::test]
async fn a_mail_that_is_lost_leaves_nothing() {
    let (dir, maildir) = maildir();
    let mut mta = MockMta::postfix(filter(maildir));
    let mut smtp = mta.open().await;
    smtp.mail("<alice@example.org>").await;
    smtp.rcpt("<bob@example.net>").await;
    smtp.data().await;
    smtp.header("Subject", "hi").await;
    smtp.end_of_headers().await;
    smtp.body(vec![b'x'; 200_000]).await;
    smtp.lose().await;
    assert!(files(dir.path(), "new").is_empty());
    assert!(files(dir.path(), "tmp").is_empty());
}

#[tokio::test]
async fn where_there_is_no_archive_no_mail_is_taken() {
    let (dir, maildir) = maildir();
    for folder in ["tmp", "new"] {
        fs::remove_dir(dir.path().join(folder)).unwrap();
        let done = MockMta::postfix(filter(maildir.clone()))
            .deliver(Mail::new())
            .await;
        assert_refused!(done, 451, "The archive cannot be written to");
    }
    assert_eq!(refusal(&io::ErrorKind::StorageFull.into()).code(), 452);
}

// Time is not paused: files are written by other threads.
#[tokio::test]
async fn nasty_mails_do_no_harm() {
    let (dir, maildir) = maildir();
    survives(filter(maildir.clone())).await;
    assert!(files(dir.path(), "tmp").is_empty());
    for nasty in nasty_mails().filter(|nasty| !nasty.is_past_limits) {
        for kept in files(dir.path(), "new") {
            fs::remove_file(kept).unwrap();
        }
        let done = MockMta::postfix(filter(maildir.clone()))
            .deliver(&nasty.mail)
            .await;
        let kept = files(dir.path(), "new").len();
        assert_eq!(kept, usize::from(done.is_accepted()), "{}", nasty.name);
    }
}
