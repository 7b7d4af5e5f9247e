//! Every layer around a filter that gives every verdict, makes every edit and breaks in every way, at
//! every stage, behind each mail server of the test kit.
//!
//! What comes of a session with the layer is compared with what comes of it without. Nothing is lost
//! (a layer that has nothing to do changes neither verdicts nor edits nor what is delivered), doubled,
//! illegal (the server finds nothing to complain of unless the filter failed) or out of step (the
//! messages after are right, and the filter hears of each end once).

mod cases;
mod check;
mod client;
mod filter;

use std::time::Duration;

use milter_tower::testing::MtaProfile;
use milter_tower::{Stage, Verdict};

use self::cases::{CASES, Case, Effect, Failing};
use self::check::But;
use self::client::{End, Filter, Run, Script, Step, run};
use self::filter::{Act, Plan, Shape, own_words};

/// Several messages, with the filter at work and without.
const MESSAGES: Script = Script {
    steps: &[
        Step::Acts,
        Step::Mail,
        Step::GivesUp(Stage::Rcpt),
        Step::Acts,
    ],
    end: End::Quit,
};

/// How much that is wrong is shown.
const SHOWN: usize = 20;

/// Where a client stops for good.
const STOPS: [Stage; 3] = [Stage::Rcpt, Stage::Header, Stage::Body];

fn ends() -> impl Iterator<Item = Script> {
    const GIVES_UP: &[Step] = &[
        Step::Unknown,
        Step::GivesUp(Stage::Mail),
        Step::GivesUp(Stage::Rcpt),
        Step::GivesUp(Stage::Data),
        Step::Acts,
        Step::GivesUp(Stage::Header),
        Step::GivesUp(Stage::EndOfHeaders),
        Step::GivesUp(Stage::Body),
        Step::Mail,
    ];
    const ODD: &[Step] = &[
        Step::Helo,
        Step::UnknownInMessage,
        Step::HeloInMessage,
        Step::Unknown,
        Step::Mail,
    ];
    let odd = [GIVES_UP, ODD].map(|steps| Script {
        steps,
        end: End::Quit,
    });
    let steps = &[Step::Acts];
    odd.into_iter()
        .chain(STOPS.into_iter().flat_map(move |stage| {
            [End::QuitAfter(stage), End::LostAfter(stage)].map(|end| Script { steps, end })
        }))
}

/// Where a filter may act: at the first and at a later one of a stage.
const PLACES: [(Stage, usize); 13] = [
    (Stage::Connect, 1),
    (Stage::Helo, 1),
    (Stage::Unknown, 1),
    (Stage::Mail, 1),
    (Stage::Rcpt, 1),
    (Stage::Rcpt, 2),
    (Stage::Data, 1),
    (Stage::Header, 1),
    (Stage::Header, 3),
    (Stage::EndOfHeaders, 1),
    (Stage::Body, 1),
    (Stage::Body, 2),
    (Stage::EndOfMessage, 1),
];

/// Everything that filters do.
fn plans() -> Vec<(Plan, Script)> {
    let mut plans = Vec::new();
    for shape in [Shape::All, Shape::Records, Shape::End] {
        let plan = Plan::new(shape);
        for script in ends().chain([MESSAGES]) {
            plans.push((plan.clone(), script));
        }
        plans.push((plan.clone().edits(), MESSAGES));
    }
    let all = Plan::new(Shape::All);
    for (stage, nth) in PLACES {
        for verdict in [
            Verdict::Accept,
            Verdict::Reject,
            Verdict::TempFail,
            Verdict::Discard,
            Verdict::Skip,
            own_words(),
        ] {
            if verdict.is_allowed_at(stage) {
                let plan = all.clone().edits().act(stage, nth, Act::Says(verdict));
                plans.push((plan, MESSAGES));
            }
        }
        for (shape, act) in [
            (Shape::All, Act::Fails),
            (Shape::All, Act::Hangs),
            (Shape::All, Act::PanicsLater),
            (Shape::Records, Act::Fails),
            (Shape::Records, Act::Hangs),
            (Shape::Records, Act::Panics),
        ] {
            plans.push((Plan::new(shape).act(stage, nth, act), MESSAGES));
        }
    }
    for stage in [Stage::Connect, Stage::Body, Stage::EndOfMessage] {
        let waits = Act::Waits(Duration::from_secs(3));
        plans.push((all.clone().edits().act(stage, 1, waits), MESSAGES));
    }
    // Those who act in messages that the client gives up or that are lost.
    for script in ends() {
        for (stage, act) in [
            (Stage::Mail, Act::Says(Verdict::Accept)),
            (Stage::Header, Act::Says(Verdict::Reject)),
            (Stage::Header, Act::Panics),
        ] {
            plans.push((all.clone().act(stage, 1, act), script));
        }
    }
    plans
}

/// What is held against a layer.
fn check(
    case: &Case,
    plan: &Plan,
    is_stalwart: bool,
    [bare, without, layered]: [&Run; 3],
) -> Result<(), String> {
    check::sound(plan, layered)?;
    check::widened(bare, layered)?;
    let but = But {
        // A failure where no reply is due is told where one is.
        moved: plan.fails() && plan.shape != Shape::All,
        ..But::default()
    };
    let alike = |but| {
        check::same_told(bare, layered, but)?;
        check::same_seen(plan, bare, layered)
    };
    match case.effect {
        Effect::Replans => {
            let replanned = true;
            check::same_told(bare, layered, But { replanned, ..but })
        }
        Effect::Adds(name) => {
            let adds = Some(name);
            alike(But { adds, ..but })
        }
        Effect::Heals(failing) if plan.failing() == Some(failing) => check::healed(bare, layered),
        Effect::Opens if plan.failing() == Some(Failing::Errors) => check::opened(layered),
        Effect::None | Effect::Heals(_) | Effect::Opens => alike(but),
        Effect::Silences if matches!(plan.failing(), None | Some(Failing::Errors)) => {
            check::same_told(without, layered, But::default())
        }
        // Stalwart says nothing of its own, and refuses all that comes.
        Effect::Refuses(words) if !is_stalwart => check::refused(bare, layered, words),
        Effect::RefusesSecond(words) if !is_stalwart => check::refused_second(bare, layered, words),
        _ => Ok(()),
    }
}

/// What went wrong, and with which layers.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, layers: &str, (plan, script): &(Plan, Script), what: Result<(), String>) {
        if let Err(what) = what {
            self.0
                .push(format!("{layers}: {plan:?} {script:?}: {what}"));
        }
    }

    fn none(self) {
        for wrong in self.0.iter().take(SHOWN) {
            println!("{wrong}\n");
        }
        assert!(self.0.is_empty(), "{} wrong", self.0.len());
    }
}

fn alone(filter: Filter) -> Filter {
    filter
}

fn block_on(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test);
}

/// Everything that filters do under a profile, with each layer.
fn each_layer(profile: &MtaProfile) {
    block_on(async {
        let mut wrong = Wrong::default();
        let is_stalwart = profile.name() == "Stalwart";
        for plan in plans() {
            let bare = run(profile, &plan, &alone).await;
            wrong.note("no layer", &plan, check::sound(&plan.0, &bare));
            let without = run(profile, &(Plan::new(Shape::All), plan.1), &alone).await;
            for case in CASES {
                let layered = run(profile, &plan, &case.wrap).await;
                let runs = [&bare, &without, &layered];
                wrong.note(case.name, &plan, check(case, &plan.0, is_stalwart, runs));
            }
        }
        wrong.none();
    });
}

#[test]
fn each_layer_with_postfix() {
    each_layer(&MtaProfile::postfix());
}

#[test]
fn each_layer_with_sendmail() {
    each_layer(&MtaProfile::sendmail());
}

#[test]
fn each_layer_with_stalwart() {
    each_layer(&MtaProfile::stalwart());
}

#[test]
fn each_layer_with_version_2() {
    each_layer(&MtaProfile::version_2());
}

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// Some of what filters do, for many stacks of layers.
fn some_plans() -> Vec<(Plan, Script)> {
    let all = Plan::new(Shape::All);
    let says = |stage, nth, verdict| all.clone().edits().act(stage, nth, Act::Says(verdict));
    let plans = [
        all.clone().edits(),
        Plan::new(Shape::End).edits(),
        says(Stage::Connect, 1, Verdict::Accept),
        says(Stage::Mail, 1, Verdict::Accept),
        says(Stage::Rcpt, 1, own_words()),
        says(Stage::Header, 3, Verdict::Discard),
        says(Stage::Body, 1, Verdict::Skip),
        says(Stage::EndOfMessage, 1, Verdict::TempFail),
        Plan::new(Shape::Records).act(Stage::Mail, 1, Act::Fails),
        all.clone().act(Stage::Header, 1, Act::PanicsLater),
        all.clone().act(Stage::EndOfHeaders, 1, Act::Hangs),
    ];
    plans.map(|plan| (plan, MESSAGES)).into()
}

/// What must hold with several layers of which each changes nothing.
fn neutral(plan: &Plan, bare: &Run, layered: &Run) -> Result<(), String> {
    let but = But {
        headers: &["X-Layer", "Authentication-Results"],
        replanned: true,
        moved: plan.fails(),
        ..But::default()
    };
    check::same_told(bare, layered, but)
}

/// Each layer over each, with some filters of which each pair gets others.
#[test]
fn each_layer_over_each() {
    block_on(async {
        let (mut wrong, plans) = (Wrong::default(), some_plans());
        for (nth, profile) in profiles().iter().enumerate() {
            let mut alones = Vec::new();
            for plan in &plans {
                alones.push(run(profile, plan, &alone).await);
            }
            for (o, outer) in CASES.iter().enumerate() {
                for (i, inner) in CASES.iter().enumerate() {
                    let at = (nth + o + i * CASES.len()) % plans.len();
                    let (plan, bare) = (&plans[at], &alones[at]);
                    let wrap = |filter| (outer.wrap)((inner.wrap)(filter));
                    let layered = run(profile, plan, &wrap).await;
                    let layers = format!("{} over {}", outer.name, inner.name);
                    wrong.note(&layers, plan, check::sound(&plan.0, &layered));
                    wrong.note(&layers, plan, check::widened(bare, &layered));
                    if outer.is_neutral() && inner.is_neutral() {
                        wrong.note(&layers, plan, neutral(&plan.0, bare, &layered));
                    }
                }
            }
        }
        wrong.none();
    });
}

/// All that change nothing, one over the other, in the order of the table and in the other one.
#[test]
fn all_layers_at_once() {
    block_on(async {
        let mut wrong = Wrong::default();
        let neutrals: Vec<_> = CASES.iter().filter(|case| case.is_neutral()).collect();
        let wrap = |filter| {
            neutrals
                .iter()
                .fold(filter, |filter, case| (case.wrap)(filter))
        };
        let turned = |filter| {
            neutrals
                .iter()
                .rfold(filter, |filter, case| (case.wrap)(filter))
        };
        for profile in profiles() {
            for plan in some_plans() {
                let bare = run(&profile, &plan, &alone).await;
                for layered in [
                    run(&profile, &plan, &wrap).await,
                    run(&profile, &plan, &turned).await,
                ] {
                    wrong.note("all", &plan, check::sound(&plan.0, &layered));
                    wrong.note("all", &plan, check::widened(&bare, &layered));
                    wrong.note("all", &plan, neutral(&plan.0, &bare, &layered));
                }
            }
        }
        wrong.none();
    });
}
