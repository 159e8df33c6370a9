//! Draws the picture of `ARCHITECTURE.md`.

use std::fmt::Write as _;

use crate::layers::{BESIDE, BESIDE_STANDS_ON, LAYERS};

const WIDTH: usize = 1000;
const MARGIN: usize = 20;
/// The column of the layers; the other event systems stand to its right.
const COLUMN: usize = 700;
const ROW: usize = 62;
const SPACE: usize = 10;
const LINE: usize = 18;

const STYLE: &str = "text{font-family:system-ui,sans-serif;font-size:14px;fill:#1f2328}.small{font-size:12px;fill:#57606a}\
.code{font-family:ui-monospace,monospace;font-size:13px}.layer{fill:#ddf4ff;stroke:#54aeff}.beside{fill:#fff8c5;stroke:#d4a72c}\
.outside{fill:#f6f8fa;stroke:#8c959f;stroke-dasharray:4 3}.arrow{stroke:#57606a;stroke-width:1.5;fill:none;marker-end:url(#head)}";

/// A box with a title and lines of names.
struct Box<'a> {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    class: &'a str,
    title: &'a str,
    names: &'a str,
}

impl Box<'_> {
    fn draw(&self, svg: &mut String) {
        let Self { x, y, width, height, class, title, names } = self;
        let (left, first, second) = (x + 12, y + height / 2 - 6, y + height / 2 - 6 + LINE);
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n\
             <text x=\"{left}\" y=\"{first}\">{title}</text>\n\
             <text class=\"code\" x=\"{left}\" y=\"{second}\">{names}</text>"
        );
    }
}

fn arrow(svg: &mut String, x: usize, from: usize, to: usize) {
    let _ = writeln!(svg, "<path class=\"arrow\" d=\"M{x} {from}V{to}\"/>");
}

/// The picture as SVG.
#[must_use]
pub fn draw() -> String {
    let rows = LAYERS.len() + 2;
    let height = MARGIN * 2 + rows * (ROW + SPACE) + LINE;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>The layers of ringcentral-events</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L8 4L0 8z\" fill=\"#57606a\"/></marker></defs>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"
    );
    let top = |row: usize| MARGIN + row * (ROW + SPACE);
    let wide = WIDTH - 2 * MARGIN;
    let outside = |y, title, names| Box { x: MARGIN, y, width: wide, height: ROW, class: "outside", title, names };
    outside(top(0), "Your program", "reads a Stream of Delivery or AgentDelivery; answers the platform with a Source")
        .draw(&mut svg);
    for (at, layer) in LAYERS.iter().rev().enumerate() {
        let y = top(at + 1);
        let names = layer.modules.join(" ");
        // The layers that everything stands on are as wide as the picture.
        let width = if LAYERS.len() - at <= BESIDE_STANDS_ON + 1 { wide } else { COLUMN };
        let row = Box { x: MARGIN, y, width, height: ROW, class: "layer", title: layer.title, names: &names };
        row.draw(&mut svg);
        arrow(&mut svg, MARGIN + COLUMN / 2, y - SPACE, y);
    }
    let (x, width) = (MARGIN + COLUMN + SPACE, wide - COLUMN - SPACE);
    let beside_rows = LAYERS.len() - BESIDE_STANDS_ON - 1;
    let each = (beside_rows * (ROW + SPACE) - SPACE - SPACE * (BESIDE.len() - 1)) / BESIDE.len();
    for (at, (name, title)) in BESIDE.iter().enumerate() {
        let y = top(1) + at * (each + SPACE);
        Box { x, y, width, height: each, class: "beside", title, names: name }.draw(&mut svg);
    }
    arrow(&mut svg, x + width / 2, top(1) - SPACE, top(1));
    arrow(&mut svg, x + width / 2, top(beside_rows + 1) - SPACE, top(beside_rows + 1));
    outside(
        top(rows - 1),
        "The service, or the sandbox, or the simulation",
        "reached through http and transport: REST, PubNub, the WebSocket gateway, Engage Digital, CXone",
    )
    .draw(&mut svg);
    let _ = writeln!(
        svg,
        "<text class=\"small\" x=\"{MARGIN}\" y=\"{}\">A module names its own layer and lower ones. Digital and agent do not know the subscription.</text>\n</svg>",
        height - MARGIN + 8
    );
    svg
}
