//! The chart: processor time as a multiple of the floor's, by scenario and server.

use std::fmt::Write as _;

use crate::report::Report;
use crate::servers::Server;

const WIDTH: f64 = 820.0;
/// Where bars begin and where the axis ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 108.0;
const BAR: f64 = 18.0;
const GAP: f64 = 22.0;

/// Drawn on a ground of its own, so that it can be read on whatever page it is shown.
const STYLE: &str = "
.ground{fill:#ffffff;stroke:#d0d7de}
text{font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:13px;fill:#1f2328}
.title{font-size:17px;font-weight:600}
.name{font-weight:600}
.faint{fill:#59636e;font-size:12px}
.figure{stroke:#ffffff;stroke-width:4;paint-order:stroke}
.grid{stroke:#d0d7de;stroke-width:1}
.floor{stroke:#1f2328;stroke-width:1.5}
.one-thread{fill:#1a7f64}
.runtime{fill:#66c2a5}
.libmilter{fill:#8c959f}
@media (prefers-color-scheme:dark){
.ground{fill:#0d1117;stroke:#3d444d}
text{fill:#f0f6fc}
.faint{fill:#9198a1}
.figure{stroke:#0d1117}
.grid{stroke:#3d444d}
.floor{stroke:#f0f6fc}
.one-thread{fill:#2ea583}
.runtime{fill:#8fd6bf}
.libmilter{fill:#757d87}
}
";

/// The whole file.
pub(crate) fn draw(report: &Report) -> String {
    let mut bars = String::new();
    let most = report
        .scenarios
        .iter()
        .flat_map(|one| one.rows.iter().map(|row| one.ratio(row).0))
        .fold(1.0, f64::max);
    let step = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];
    let step = step
        .into_iter()
        .find(|step| most / step <= 7.0)
        .unwrap_or(100.0);
    let end = (most / step).ceil() * step;
    let place = |ratio: f64| LEFT + (RIGHT - LEFT) * ratio / end;

    let mut y = TOP;
    for scenario in &report.scenarios {
        let rows: Vec<_> = scenario
            .rows
            .iter()
            .filter(|row| row.server != Server::Floor)
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "a few")]
        let middle = y + BAR * rows.len() as f64 / 2.0;
        label(
            &mut bars,
            "name",
            LEFT - 12.0,
            middle - 2.0,
            "end",
            &scenario.name,
        );
        label(
            &mut bars,
            "faint",
            LEFT - 12.0,
            middle + 14.0,
            "end",
            &scenario.about,
        );
        for row in rows {
            let ratio = scenario.ratio(row).0;
            let width = place(ratio) - LEFT;
            let (class, text) = (class(row.server), y + BAR - 5.0);
            let _ = writeln!(
                bars,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\" rx=\"2\"/>",
                y + 1.0,
                BAR - 2.0,
            );
            let figure = format!("{ratio:.2} × ({:.1} µs)", row.median(|f| f.processor));
            label(
                &mut bars,
                "figure",
                place(ratio) + 8.0,
                text,
                "start",
                &figure,
            );
            y += BAR;
        }
        y += GAP;
    }
    let bottom = y - GAP + 8.0;
    let mut svg = heading(report, bottom + 56.0);
    let mut tick = 0.0;
    while tick <= end + 1e-9 {
        line(&mut svg, "grid", place(tick), TOP - 8.0, bottom);
        label(
            &mut svg,
            "faint",
            place(tick),
            bottom + 18.0,
            "middle",
            &format!("{tick}"),
        );
        tick += step;
    }
    line(&mut svg, "floor", place(1.0), TOP - 8.0, bottom);
    svg.push_str(&bars);
    label(&mut svg, "faint", place(1.0), TOP - 12.0, "middle", "floor");
    let axis = format!("× floor, measured on {}", report.machine);
    label(&mut svg, "faint", LEFT, bottom + 40.0, "start", &axis);
    svg.push_str("</svg>\n");
    svg
}

/// The beginning of the file: ground, title and legend.
fn heading(report: &Report, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"title\">\n\
         <title id=\"title\">Processor time for a message, as a multiple of the floor's</title>\n\
         <style>{STYLE}</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        WIDTH - 1.0,
        height - 1.0,
    );
    label(
        &mut svg,
        "title",
        24.0,
        34.0,
        "start",
        "Processor time for a message",
    );
    let subtitle = "as a multiple of the floor, a server that only cuts frames and writes canned \
                    replies; shorter is better";
    label(&mut svg, "faint", 24.0, 54.0, "start", subtitle);
    let mut x = 24.0;
    for server in Server::ALL.into_iter().skip(1) {
        let mut shown = report.scenarios.iter().flat_map(|one| &one.rows);
        if !shown.any(|row| row.server == server) {
            continue;
        }
        let class = class(server);
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"69\" width=\"12\" height=\"12\" rx=\"2\"/>"
        );
        label(&mut svg, "key", x + 18.0, 80.0, "start", server.label());
        #[allow(clippy::cast_precision_loss, reason = "a few")]
        let width = 46.0 + 7.0 * server.label().len() as f64;
        x += width;
    }
    svg
}

fn class(server: Server) -> &'static str {
    match server {
        Server::Floor => "floor",
        Server::OneThread => "one-thread",
        Server::Runtime => "runtime",
        Server::Libmilter => "libmilter",
    }
}

fn label(svg: &mut String, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn line(svg: &mut String, class: &str, x: f64, from: f64, to: f64) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\"/>"
    );
}
