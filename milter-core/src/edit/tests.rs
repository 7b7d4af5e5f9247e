use super::*;

fn mail(profile: Profile, headers: &[(&'static str, &'static str)]) -> Mail {
    let mail = Mail::new(profile).with_received(Header::new("Received", " own"));
    let all = headers.iter();
    all.fold(mail, |mail, (name, value)| {
        mail.with_header(Header::new(*name, format!(" {value}")))
    })
}

fn after(
    profile: Profile,
    headers: &[(&'static str, &'static str)],
    edits: &[Modification],
) -> String {
    let mut mail = mail(profile, headers);
    mail.apply(edits, false).unwrap();
    let all: Vec<_> = mail
        .headers()
        .map(|header| format!("{}:{}", header.name(), header.value()))
        .collect();
    all.join(", ")
}

const CLIENT: &[(&str, &str)] = &[("A", "1"), ("B", "2"), ("a", "3")];

fn add(name: &str, value: &str) -> Modification {
    Modification::add_header(name, value).unwrap()
}

fn insert(index: u32, name: &str, value: &str) -> Modification {
    Modification::insert_header(index, name, value).unwrap()
}

fn change(name: &str, index: u32, value: &str) -> Modification {
    Modification::change_header(name, index, value).unwrap()
}

fn delete(name: &str, index: u32) -> Modification {
    Modification::delete_header(name, index).unwrap()
}

#[test]
fn q16_added_headers_have_another_place() {
    let edits = [add("A", "x"), add("C", "y")];
    assert_eq!(
        after(Profile::postfix(), CLIENT, &edits),
        "Received: own, A: 1, B: 2, a: 3, A: x, C: y"
    );
    assert_eq!(
        after(Profile::sendmail(), CLIENT, &edits),
        "Received: own, A: x, A: 1, B: 2, a: 3, C: y"
    );
}

#[test]
fn q16_inserted_headers_are_counted_from_another_base() {
    for (postfix, sendmail, result) in [
        (0, 0, "X: x, Received: own, A: 1, B: 2, a: 3"),
        (1, 1, "Received: own, X: x, A: 1, B: 2, a: 3"),
        (1, 8, "Received: own, X: x, A: 1, B: 2, a: 3"),
        (2, 9, "Received: own, A: 1, X: x, B: 2, a: 3"),
        (99, 99, "Received: own, A: 1, B: 2, a: 3, X: x"),
        (
            i32::MAX as u32,
            i32::MAX as u32,
            "Received: own, A: 1, B: 2, a: 3, X: x",
        ),
    ] {
        let x = |index| [insert(index, "X", "x")];
        assert_eq!(after(Profile::postfix(), CLIENT, &x(postfix)), result);
        assert_eq!(after(Profile::sendmail(), CLIENT, &x(sendmail)), result);
    }
}

#[test]
fn q16_deleted_headers_still_count_with_sendmail() {
    let edits = [delete("A", 1), change("A", 2, "new")];
    // There is no second one any more.
    assert_eq!(
        after(Profile::postfix(), CLIENT, &edits),
        "Received: own, B: 2, a: 3, A: new"
    );
    assert_eq!(
        after(Profile::sendmail(), CLIENT, &edits),
        "Received: own, B: 2, a: new"
    );
}

#[test]
fn the_own_received_is_not_counted() {
    let headers = &[("Received", "client's")];
    for profile in [Profile::postfix(), Profile::sendmail()] {
        let result = after(
            profile,
            headers,
            &[delete("received", 1), delete("received", 1)],
        );
        assert_eq!(result, "Received: own");
    }
}

#[test]
fn sendmails_hidden_defaults_take_what_is_too_many() {
    let headers = &[("Subject", "s"), ("Date", "client's")];
    let edits = [change("Date", 2, "second")];
    assert_eq!(
        after(Profile::sendmail(), headers, &edits),
        "Received: own, Date: second, Subject: s, Date: client's"
    );
    assert_eq!(
        after(Profile::sendmail(), headers, &[add("date", "x")]),
        "Received: own, date: x, Subject: s, Date: client's"
    );
    let bare = Profile::sendmail_with(["Received"]);
    assert_eq!(
        after(bare, headers, &edits),
        "Received: own, Subject: s, Date: second, Date: client's"
    );
}

#[test]
fn what_one_filter_deletes_the_next_counts_differently() {
    for profile in [Profile::postfix(), Profile::sendmail()] {
        let mut mail = mail(profile, CLIENT);
        mail.apply(&[delete("A", 1)], false).unwrap();
        mail.apply(&[change("A", 1, "x")], false).unwrap();
        let left: Vec<_> = mail.headers().map(|h| h.value().to_string()).collect();
        assert_eq!(left, [" own", " 2", " x"]);
    }
}

#[test]
fn leading_space_is_the_filters_where_it_was_negotiated() {
    let mut mail = mail(Profile::postfix(), CLIENT);
    mail.apply(&[add("X", "  two")], true).unwrap();
    assert_eq!(mail.headers().last().unwrap().value(), "  two");
    let shown: Vec<_> = mail
        .shown_headers(false)
        .map(|h| h.value().to_string())
        .collect();
    assert_eq!(shown, ["1", "2", "3", " two"]);
    let shown: Vec<_> = mail
        .shown_headers(true)
        .map(|h| h.value().to_string())
        .collect();
    assert_eq!(shown, [" 1", " 2", " 3", "  two"]);
}

#[test]
fn bodies_in_pieces() {
    let pieces = [
        Modification::replace_body("one\r"),
        Modification::replace_body("\ntwo\nbare\rcr"),
    ];
    let mut mail = mail(Profile::postfix(), CLIENT).with_body("old\r\n");
    mail.apply(&pieces, false).unwrap();
    assert_eq!(mail.body(), "one\r\ntwo\r\nbare\rcr\r\n");
    mail.apply(&[Modification::replace_body("")], false)
        .unwrap();
    assert_eq!(mail.body(), "");
}

#[test]
fn q17_postfix_refuses_an_interrupted_body() {
    let edits = [
        Modification::replace_body("one"),
        add("X", "x"),
        Modification::replace_body("two"),
    ];
    let refused = mail(Profile::postfix(), CLIENT).apply(&edits, false);
    assert_eq!(refused, Err(Refused::InterruptedBody));
    let mut mail = mail(Profile::sendmail(), CLIENT);
    mail.apply(&edits, false).unwrap();
    assert_eq!(mail.body(), "onetwo\r\n");
}

#[test]
fn envelopes() {
    let edits = [
        Modification::change_sender_with_args("<c@d>", "RET=HDRS ENVID=x").unwrap(),
        Modification::delete_recipient("<B@example.net>").unwrap(),
        Modification::add_recipient("<e@f>").unwrap(),
        Modification::add_recipient("<E@F>").unwrap(),
    ];
    for (profile, recipients) in [
        (Profile::postfix(), &["b@example.net", "e@f"][..]),
        (Profile::sendmail(), &["e@f"]),
    ] {
        let mut mail =
            mail(profile, &[]).with_recipient(Recipient::new("<b@example.net>", [""; 0]));
        mail.apply(&edits, false).unwrap();
        assert_eq!(mail.sender().mailbox(), "c@d");
        assert_eq!(mail.sender().args().iter().count(), 2);
        let kept: Vec<_> = mail
            .recipients()
            .iter()
            .map(|r| r.mailbox().to_string())
            .collect();
        assert_eq!(kept, recipients);
    }
}

#[test]
fn q33_only_sendmail_takes_lists_of_recipients() {
    let raw = b"<a@b>, \"x,y\"@c,<d@e>\0";
    let list = Modification::decode(b'+', Bytes::from_static(raw)).unwrap();
    for (profile, count) in [(Profile::postfix(), 1), (Profile::sendmail(), 3)] {
        let mut mail = mail(profile, &[]);
        mail.apply([&list], false).unwrap();
        assert_eq!(mail.recipients().len(), count);
        assert_eq!(mail.recipients()[0].address(), "<a@b>");
    }
}

#[test]
fn the_last_reason_for_quarantine_holds() {
    let long = "x".repeat(200);
    let edits = ["first", &long].map(|reason| Modification::quarantine(reason).unwrap());
    for (profile, len) in [(Profile::postfix(), 100), (Profile::sendmail(), 200)] {
        let mut mail = mail(profile, &[]);
        mail.apply(&edits, false).unwrap();
        assert_eq!(mail.quarantine().unwrap().len(), len);
    }
}
