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

fn replaced(profile: Profile, pieces: &[&'static str]) -> Mail {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Modification::replace_body(*piece))
        .collect();
    let mut mail = mail(profile, CLIENT).with_body("old\r\n");
    mail.apply(&pieces, false).unwrap();
    mail
}

#[test]
fn bodies_in_pieces() {
    for (pieces, body) in [
        (
            &["one\r", "\ntwo\nbare\rcr"][..],
            "one\r\ntwo\r\nbare\rcr\r\n",
        ),
        (&["one\r", "\r", "\n"], "one\r\r\n"),
        (&["one\r"], "one\r\r\n"),
        (&["\r\n.\r\n"], "\r\n.\r\n"),
        (&["", "one"], "one\r\n"),
        (&[""], ""),
    ] {
        for profile in [Profile::postfix(), Profile::sendmail()] {
            assert_eq!(replaced(profile, pieces).body(), body, "{pieces:?}");
        }
    }
}

#[test]
fn an_empty_piece_doubles_a_waiting_cr_with_sendmail() {
    for (pieces, postfix, sendmail) in [
        (&["a\r", "", "\nb"][..], "a\r\nb\r\n", "a\r\r\nb\r\n"),
        (&["a\r", "", "b"], "a\rb\r\n", "a\r\rb\r\n"),
        (&["a\r", ""], "a\r\r\n", "a\r\r\r\n"),
    ] {
        assert_eq!(replaced(Profile::postfix(), pieces).body(), postfix);
        assert_eq!(replaced(Profile::sendmail(), pieces).body(), sendmail);
    }
}

#[test]
fn sendmail_ends_the_last_line_for_no_filter() {
    for (profile, shown) in [
        (Profile::postfix(), "one\r\ntwo\r\n"),
        (Profile::sendmail(), "one\r\ntwo"),
    ] {
        let mail = replaced(profile, &["one\ntwo"]);
        assert_eq!(mail.shown_body(), shown);
        assert_eq!(mail.body(), "one\r\ntwo\r\n");
    }
    let mail = replaced(Profile::sendmail(), &["one\n"]);
    assert_eq!(mail.shown_body(), "one\r\n");
    assert_eq!(replaced(Profile::sendmail(), &[""]).shown_body(), "");
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

fn add_recipient(address: &str, args: &str) -> Modification {
    Modification::add_recipient_with_args(address, args).unwrap()
}

fn delete_recipient(address: &str) -> Modification {
    Modification::delete_recipient(address).unwrap()
}

/// A mail to Bob with these arguments, after the edits: the recipients with their arguments.
fn recipients(profile: Profile, args: &'static str, edits: &[Modification]) -> Vec<String> {
    let args = args.split_ascii_whitespace();
    let mut mail = mail(profile, &[]).with_recipient(Recipient::new("<b@c>", args));
    mail.apply(edits, false).unwrap();
    let shown = mail.recipients().iter().map(|one| {
        let args = one.args().iter().map(|arg| format!(" {}", arg.raw()));
        format!("{}{}", one.mailbox(), args.collect::<String>())
    });
    shown.collect()
}

#[test]
fn q34_recipients_are_compared_byte_for_byte() {
    for profile in [Profile::postfix(), Profile::sendmail()] {
        let edits = [delete_recipient("<B@c>"), delete_recipient("<b@C>")];
        assert_eq!(recipients(profile.clone(), "", &edits), ["b@c"]);
        assert_eq!(recipients(profile, "", &[delete_recipient("b@c")]), [""; 0]);
    }
}

#[test]
fn only_sendmail_knows_the_clients_recipients_again() {
    let edits = [add_recipient("<b@c>", ""), add_recipient("<b@c>", "")];
    assert_eq!(recipients(Profile::postfix(), "", &edits), ["b@c", "b@c"]);
    assert_eq!(recipients(Profile::sendmail(), "", &edits), ["b@c"]);
    let own = [add_recipient("<B@c>", "ORCPT=rfc822;b@C")];
    assert_eq!(recipients(Profile::postfix(), "", &own), ["b@c"]);
}

#[test]
fn the_client_reaches_nobody_twice() {
    for profile in [Profile::postfix(), Profile::sendmail()] {
        let mail = mail(profile, &[])
            .with_recipient(Recipient::new("<b@c>", [""; 0]))
            .with_recipient(Recipient::new("<b@c>", [""; 0]));
        assert_eq!(mail.recipients().len(), 1);
    }
}

#[test]
fn to_postfix_arguments_make_another_recipient_and_case_does_not() {
    let edits = [
        add_recipient("<d@e>", ""),
        add_recipient("<D@e>", ""),
        add_recipient("<d@e>", "NOTIFY=NEVER"),
        add_recipient("<d@e>", "notify=never"),
    ];
    assert_eq!(
        recipients(Profile::postfix(), "", &edits),
        ["b@c", "d@e", "d@e NOTIFY=NEVER"]
    );
    assert_eq!(
        recipients(Profile::sendmail(), "", &edits),
        ["b@c", "d@e", "D@e"]
    );
}

#[test]
fn a_delete_in_another_case_makes_postfix_forget() {
    let edits = [
        add_recipient("<d@e>", ""),
        delete_recipient("<D@e>"),
        add_recipient("<d@e>", ""),
    ];
    assert_eq!(
        recipients(Profile::postfix(), "", &edits),
        ["b@c", "d@e", "d@e"]
    );
    assert_eq!(recipients(Profile::sendmail(), "", &edits), ["b@c", "d@e"]);
}

#[test]
fn sendmail_remembers_whom_it_deleted() {
    for (client, args, postfix, sendmail) in [
        ("", "", "b@c", "b@c"),
        (
            "",
            "NOTIFY=NEVER",
            "b@c NOTIFY=NEVER",
            "b@c NOTIFY=FAILURE,DELAY",
        ),
        ("NOTIFY=NEVER", "", "b@c", "b@c NOTIFY=FAILURE,DELAY"),
        (
            "NOTIFY=NEVER",
            "NOTIFY=NEVER",
            "b@c NOTIFY=NEVER",
            "b@c NOTIFY=NEVER",
        ),
        (
            "NOTIFY=SUCCESS ORCPT=rfc822;old",
            "NOTIFY=DELAY ORCPT=rfc822;new",
            "b@c NOTIFY=DELAY ORCPT=rfc822;new",
            "b@c ORCPT=rfc822;old NOTIFY=SUCCESS,DELAY",
        ),
    ] {
        let edits = [delete_recipient("<b@c>"), add_recipient("<b@c>", args)];
        assert_eq!(recipients(Profile::postfix(), client, &edits), [postfix]);
        assert_eq!(recipients(Profile::sendmail(), client, &edits), [sendmail]);
    }
}

#[test]
fn arguments_of_recipients() {
    for (args, postfix, sendmail) in [
        ("X=1 NOTIFY=NEVER", &["d@e NOTIFY=NEVER"][..], &[][..]),
        ("NOTIFY=NEVER,DELAY", &["d@e"], &[]),
        (
            "NOTIFY=NEVER NOTIFY=DELAY",
            &["d@e NOTIFY=NEVER"],
            &["d@e NOTIFY=DELAY"],
        ),
        (
            "ORCPT=rfc822;a ORCPT=rfc822;b",
            &["d@e ORCPT=rfc822;a"],
            &[],
        ),
    ] {
        let edits = [add_recipient("<d@e>", args)];
        assert_eq!(recipients(Profile::postfix(), "", &edits)[1..], *postfix);
        assert_eq!(recipients(Profile::sendmail(), "", &edits)[1..], *sendmail);
    }
}

#[test]
fn arguments_of_senders() {
    for (args, postfix, sendmail) in [
        (
            &[""][..],
            "BODY=8BITMIME RET=FULL",
            "BODY=8BITMIME RET=FULL",
        ),
        (&["ENVID=x"], "BODY=8BITMIME RET=FULL ENVID=x", "ENVID=x"),
        (&["RET=HDRS", ""], "BODY=8BITMIME RET=HDRS", "RET=HDRS"),
        (
            &["RET=HDRS", "ENVID=x", "ENVID=y"],
            "BODY=8BITMIME RET=HDRS ENVID=y",
            "ENVID=y",
        ),
        (
            &["ENVID=x X=1 RET=HDRS"],
            "BODY=8BITMIME ENVID=x RET=HDRS",
            "ENVID=x",
        ),
        (
            &["RET=x ENVID=x"],
            "BODY=8BITMIME RET=FULL ENVID=x",
            "RET=FULL",
        ),
    ] {
        for (profile, left) in [
            (Profile::postfix(), postfix),
            (Profile::sendmail(), sendmail),
        ] {
            let sender = Sender::new("<a@b>", ["BODY=8BITMIME", "RET=FULL"]);
            let mut mail = mail(profile, &[]).with_sender(sender);
            let edits = args.iter();
            let edits: Vec<_> = edits
                .map(|args| Modification::change_sender_with_args("<>", args).unwrap())
                .collect();
            mail.apply(&edits, false).unwrap();
            assert!(mail.sender().is_null());
            let all: Vec<_> = mail
                .sender()
                .args()
                .iter()
                .map(|a| a.raw().to_string())
                .collect();
            assert_eq!(all.join(" "), left, "{args:?}");
        }
    }
}

#[test]
fn arguments_that_end_sendmail() {
    for (code, raw) in [
        (b'2', &b"<d@e>\0ORCPT=none\0"[..]),
        (b'2', b"<d@e>\0NOTIFY\0"),
        (b'e', b"<d@e>\0RET\0"),
    ] {
        let edit = Modification::decode(code, Bytes::from_static(raw)).unwrap();
        let refused = mail(Profile::sendmail(), &[]).apply([&edit], false);
        assert_eq!(refused, Err(Refused::FatalArgument));
        mail(Profile::postfix(), &[]).apply([&edit], false).unwrap();
    }
    // What stands behind an error is not read.
    let raw = Bytes::from_static(b"<d@e>\0X NOTIFY\0");
    let edit = Modification::decode(b'2', raw).unwrap();
    mail(Profile::sendmail(), &[])
        .apply([&edit], false)
        .unwrap();
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
        let raw = b"<d@e>,<a@b>\0";
        let list = Modification::decode(b'-', Bytes::from_static(raw)).unwrap();
        mail.apply([&list], false).unwrap();
        // Postfix looks for the first alone.
        assert_eq!(mail.recipients().len(), 1);
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
