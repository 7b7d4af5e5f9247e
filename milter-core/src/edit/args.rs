//! What the MTAs make of the ESMTP arguments that a filter sends.

use bytes::Bytes;

use super::{Profile, Refused};
use crate::modification::checks::{OF_RECIPIENTS, OF_SENDERS, fatal_arg};
use crate::{EsmtpArgs, Text};

/// The arguments of an added recipient; `None` if it is not added because of them.
pub(super) fn of_recipient(
    profile: &Profile,
    args: Text<'_>,
) -> Result<Option<Vec<Bytes>>, Refused> {
    let (mut notify, mut orcpt) = (None, None);
    for arg in split(args) {
        let is_notify = read(&arg, |args| args.notify().is_some());
        let is_orcpt = read(&arg, |args| args.orcpt().is_some());
        // Postfix cleanup_milter.c cleanup_add_rcpt_par: the first of each; warns of others
        if profile.is_postfix() {
            if is_notify {
                notify.get_or_insert(arg);
            } else if is_orcpt {
                orcpt.get_or_insert(arg);
            }
        // sendmail/srvrsmtp.c rcpt_esmtp_args: the last NOTIFY, one ORCPT; else an error, and
        // sendmail/milter.c milter_addrcpt_par does not add the recipient
        } else if is_notify {
            notify = Some(arg);
        } else if is_orcpt && orcpt.is_none() {
            orcpt = Some(arg);
        } else if fatal_arg(&arg, OF_RECIPIENTS).is_some() {
            return Err(Refused::FatalArgument);
        } else {
            return Ok(None);
        }
    }
    Ok(Some(notify.into_iter().chain(orcpt).collect()))
}

/// The arguments of a sender that had the old ones and was changed.
pub(super) fn of_sender(
    profile: &Profile,
    old: EsmtpArgs<'_>,
    new: Option<Text<'_>>,
) -> Result<Vec<Bytes>, Refused> {
    let mut kept: Vec<Bytes> = old
        .iter()
        .map(|arg| Bytes::copy_from_slice(arg.raw().as_bytes()))
        .collect();
    let Some(new) = new else {
        return Ok(kept);
    };
    if profile.is_postfix() {
        // Postfix cleanup_milter.c cleanup_chg_from: what is not given stays; warns of others
        for arg in split(new).filter(|arg| is_ret(arg) || is_envid(arg)) {
            kept.retain(|old| is_ret(old) != is_ret(&arg) || is_envid(old) != is_envid(&arg));
            kept.push(arg);
        }
        return Ok(kept);
    }
    // sendmail/milter.c milter_chgfrom: forgets all before; srvrsmtp.c parse_esmtp_args stops at the
    // first error, mail_esmtp_args takes RET and ENVID once
    kept.clear();
    for arg in split(new) {
        let is_one_more = |is: fn(&Bytes) -> bool| is(&arg) && !kept.iter().any(is);
        if is_one_more(is_ret) || is_one_more(is_envid) || is_of_the_mail(&arg) {
            kept.push(arg);
        } else if fatal_arg(&arg, OF_SENDERS).is_some() {
            return Err(Refused::FatalArgument);
        } else {
            // A value that RET cannot have has said already that there is one.
            let has_ret = kept.iter().any(is_ret);
            let is_ret = read(&arg, |args| args.get("RET").is_some());
            kept.extend((is_ret && !has_ret).then_some(Bytes::from_static(b"RET=FULL")));
            break;
        }
    }
    Ok(kept)
}

/// The arguments one by one.
fn split(args: Text<'_>) -> impl Iterator<Item = Bytes> {
    args.as_bytes()
        .split(|byte| *byte == b' ')
        .filter(|arg| !arg.is_empty())
        .map(Bytes::copy_from_slice)
}

fn is_ret(arg: &Bytes) -> bool {
    read(arg, |args| args.ret().is_some())
}

fn is_envid(arg: &Bytes) -> bool {
    read(arg, |args| args.envid().is_some())
}

/// What says something of the mail itself.
fn is_of_the_mail(arg: &Bytes) -> bool {
    read(arg, |args| {
        args.size().is_some() || args.body().is_some() || args.auth().is_some()
    })
}

/// Reads a single argument.
fn read<T>(arg: &Bytes, what: impl FnOnce(EsmtpArgs<'_>) -> T) -> T {
    what(EsmtpArgs::new(&[&arg[..], b"\0"].concat()))
}
