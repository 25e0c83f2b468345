"use strict";
// Draws the plots of the report from the JSON in the page. Texts of the run are only ever put in as text.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const INK = "#1b2430", SOFT = "#5b6673", LINE = "#e6e9ed";
  const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";
  const plots = (window.reportPlots = {});
  const number = new Intl.NumberFormat("en-US");
  const short = (v) => (v === null ? "-" : Number(v).toPrecision(4).replace(/\.?0+($|e)/, "$1"));

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function width(holder) { return Math.max(280, Math.floor(holder.getBoundingClientRect().width)); }

  // ---- the box at the pointer
  function showTip(u, lines) {
    tip.replaceChildren();
    lines.forEach((line, i) => { if (line) tip.append(i ? element("div", "", line) : element("b", "", line)); });
    tip.hidden = false;
    const box = u.over.getBoundingClientRect();
    const x = box.left + u.cursor.left + window.scrollX, y = box.top + u.cursor.top + window.scrollY;
    const right = x + 16 + tip.offsetWidth > window.scrollX + document.documentElement.clientWidth;
    tip.style.left = Math.max(4, right ? x - tip.offsetWidth - 14 : x + 16) + "px";
    tip.style.top = y + 14 + "px";
  }
  function hideTip() { tip.hidden = true; }
  function leaveHides(u) { u.over.addEventListener("mouseleave", hideTip); }

  function axis(more) {
    return Object.assign({ stroke: SOFT, font: FONT, labelFont: FONT, labelSize: 20, grid: { stroke: LINE, width: 1 }, ticks: { stroke: LINE, width: 1 } }, more);
  }
  function clipped(u, draw) {
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    draw(ctx);
    ctx.restore();
  }
  function verticalLine(u, x, colour) {
    clipped(u, (ctx) => {
      const at = u.valToPos(x, "x", true);
      ctx.strokeStyle = colour; ctx.lineWidth = uPlot.pxRatio; ctx.setLineDash([4 * uPlot.pxRatio, 3 * uPlot.pxRatio]);
      ctx.beginPath(); ctx.moveTo(at, u.bbox.top); ctx.lineTo(at, u.bbox.top + u.bbox.height); ctx.stroke();
    });
  }
  const nothing = () => null;
  const bare = { points: { show: false }, paths: nothing };

  // ---- Manhattan plot
  function firstAtLeast(values, wanted) {
    let low = 0, high = values.length;
    while (low < high) { const middle = (low + high) >> 1; if (values[middle] < wanted) low = middle + 1; else high = middle; }
    return low;
  }
  function manhattan(holder, m) {
    const byClass = m.colours.map(() => []);
    m.class.forEach((c, i) => byClass[c].push(i));
    const middle = (m.colours.length - 1) / 2;
    const order = m.colours.map((_, c) => c).sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    const last = m.stretches[m.stretches.length - 1];
    const end = last ? last.offset + last.last - last.first : 1;
    const margin = Math.max(1, end * 0.01);
    const full = { x: [-margin, end + margin], y: [0, m.y.reduce((a, b) => Math.max(a, b), 0) * 1.06 || 1] };
    let hovered = -1;

    function draw(u) {
      const ratio = uPlot.pxRatio, xs = u.scales.x, ys = u.scales.y, box = u.bbox;
      const kx = box.width / (xs.max - xs.min), ky = box.height / (ys.max - ys.min);
      const from = firstAtLeast(m.x, xs.min), to = firstAtLeast(m.x, xs.max + 1);
      const few = to - from < 3000;
      clipped(u, (ctx) => {
        m.stretches.forEach((s, i) => {
          if (i % 2) {
            ctx.fillStyle = "rgba(27,36,48,0.045)";
            ctx.fillRect(box.left + (s.offset - xs.min) * kx, box.top, Math.max(1, (s.last - s.first) * kx), box.height);
          }
        });
        for (const c of order) {
          const far = Math.abs(c - middle), r = (few ? 2.6 : 1.3) * ratio + far * 0.55 * ratio;
          ctx.fillStyle = m.colours[c];
          const mine = byClass[c], stop = mine.length;
          const round = far > 0 || few;
          for (let k = firstAtLeast(mine, from); k < stop && mine[k] < to; k++) {
            const i = mine[k], px = box.left + (m.x[i] - xs.min) * kx, py = box.top + box.height - (m.y[i] - ys.min) * ky;
            if (round) { ctx.beginPath(); ctx.arc(px, py, r, 0, 6.2832); ctx.fill(); } else ctx.fillRect(px - r, py - r, 2 * r, 2 * r);
          }
        }
        ctx.strokeStyle = INK; ctx.lineWidth = 1.4 * ratio;
        for (const i of m.top) {
          ctx.beginPath();
          ctx.arc(box.left + (m.x[i] - xs.min) * kx, box.top + box.height - (m.y[i] - ys.min) * ky, 6 * ratio, 0, 6.2832);
          ctx.stroke();
        }
      });
      u.drawn = to - from;
    }
    function nearest(u) {
      const { left, top } = u.cursor;
      if (left === undefined || left < 0) return -1;
      const reach = 10, from = firstAtLeast(m.x, u.posToVal(left - reach, "x")), to = firstAtLeast(m.x, u.posToVal(left + reach, "x"));
      let best = -1, least = reach * reach;
      for (let i = from; i < to; i++) {
        const dx = u.valToPos(m.x[i], "x") - left, dy = u.valToPos(m.y[i], "y") - top, d = dx * dx + dy * dy - Math.abs(m.class[i] - middle);
        if (d < least) { least = d; best = i; }
      }
      return best;
    }
    function hover(u) {
      hovered = nearest(u);
      if (hovered < 0) { hideTip(); return; }
      const i = hovered, s = m.stretches[m.stretch[i]];
      showTip(u, [
        m.source[i] ? m.source[i] + "  " + m.id[i] : m.id[i],
        s.name + ":" + number.format(m.x[i] - s.offset + s.first),
        m.height === "-log10 p" ? "-log10 p  " + short(m.y[i]) : "",
        m.statistic + "  " + short(m.score[i]),
        m.tracks[m.track[i]],
      ]);
    }
    function place(v) { return m.stretches.find((s) => v >= s.offset && v <= s.offset + s.last - s.first); }
    function splits(u, index, low, high, increment, space) {
      const seen = m.stretches.filter((s) => s.offset <= high && s.offset + s.last - s.first >= low);
      if (seen.length === 1) {
        const s = seen[0], shift = s.first - s.offset, step = Math.max(1, increment), found = [];
        for (let p = Math.ceil((low + shift) / step) * step; p <= high + shift; p += step) found.push(p - shift);
        return found;
      }
      const wanted = 26 / u.bbox.width * uPlot.pxRatio * (high - low);
      let taken = -Infinity;
      return seen.map((s) => (Math.max(low, s.offset) + Math.min(high, s.offset + s.last - s.first)) / 2)
        .filter((at) => { const free = at - taken >= wanted; if (free) taken = at; return free; });
    }
    function values(u, marks) {
      const xs = u.scales.x, seen = m.stretches.filter((s) => s.offset <= xs.max && s.offset + s.last - s.first >= xs.min);
      if (seen.length === 1) return marks.map((v) => number.format(Math.round(v - seen[0].offset + seen[0].first)));
      return marks.map((v) => { const s = place(v); return s ? s.name : ""; });
    }
    const u = new uPlot({
      width: width(holder), height: 420,
      legend: { show: false },
      cursor: { drag: { x: true, y: true, uni: 24 }, points: { show: false }, x: false, y: false },
      scales: { x: { time: false, range: (u, low, high) => (low === null ? full.x : [low, high]) }, y: { range: (u, low, high) => [low, high] } },
      series: [{}, bare],
      axes: [
        axis({ splits, values, grid: { show: false }, space: 90, label: m.stretches.length === 1 ? "chromosome " + m.stretches[0].name : "chromosome" }),
        axis({ label: m.height === "-log10 p" ? "-log\u2081\u2080 p" : m.height, size: 56 }),
      ],
      hooks: { draw: [draw], setCursor: [hover], ready: [leaveHides] },
    }, [m.x, m.y], holder);
    const all = () => u.batch(() => { u.setScale("x", { min: full.x[0], max: full.x[1] }); u.setScale("y", { min: full.y[0], max: full.y[1] }); });
    all();
    u.over.addEventListener("dblclick", () => setTimeout(all, 0));
    document.getElementById("zoom-out").addEventListener("click", all);
    u.hovered = () => hovered;
    return u;
  }

  // ---- distributions
  function histogram(box, d) {
    if (!d.up.length) { box.append(element("p", "note", "every score is 0")); return null; }
    const x = d.up.map((_, i) => (d.edges[i] + d.edges[i + 1]) / 2);
    const highest = d.up.reduce((a, v, i) => Math.max(a, v + d.down[i]), 0);
    const low = d.floor === null ? d.edges[0] - 0.2 : Math.min(d.floor - 0.2, Math.max(d.edges[0] - 0.2, d.floor - 3)), high = d.edges[d.edges.length - 1] + 0.2;
    function draw(u) {
      const bottom = u.valToPos(0, "y", true);
      clipped(u, (ctx) => {
        d.up.forEach((up, i) => {
          const left = u.valToPos(d.edges[i], "x", true), right = u.valToPos(d.edges[i + 1], "x", true), w = Math.max(1, right - left - 1);
          const first = u.valToPos(d.down[i], "y", true), second = u.valToPos(d.down[i] + up, "y", true);
          ctx.fillStyle = data.colours.down; ctx.fillRect(left, first, w, bottom - first);
          ctx.fillStyle = data.colours.up; ctx.fillRect(left, second, w, first - second);
        });
      });
      if (d.floor !== null) verticalLine(u, d.floor, INK);
    }
    const power = (v) => { const n = Math.round(v); return "10" + String(n).replace(/[-0-9]/g, (c) => "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["-0123456789".indexOf(c)]); };
    return new uPlot({
      width: width(box), height: 190, legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: [low, high] }, y: { range: [0, highest * 1.05] } },
      series: [{}, bare],
      axes: [axis({ values: (u, marks) => marks.map((v) => (Number.isInteger(v) ? power(v) : "")), incrs: [1, 2, 3, 4, 5], space: 34, size: 30 }),
        axis({ size: 58, values: (u, marks) => marks.map((v) => (Number.isInteger(v) ? number.format(v) : "")) })],
      hooks: { draw: [draw], ready: [leaveHides], setCursor: [(u) => {
        const i = u.cursor.idx;
        if (i === null || i === undefined || u.cursor.left < 0) { hideTip(); return; }
        showTip(u, [short(Math.pow(10, d.edges[i])) + " to " + short(Math.pow(10, d.edges[i + 1])), "up " + number.format(d.up[i]), "down " + number.format(d.down[i])]);
      }] },
    }, [x, d.up.map((v, i) => v + d.down[i])], box);
  }

  // ---- the run
  function clock(seconds) {
    if (seconds < 120) return short(seconds) + " s";
    if (seconds < 7200) return short(seconds / 60) + " min";
    return short(seconds / 3600) + " h";
  }
  const clockIncrements = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000];
  const times = () => axis({ values: (u, marks) => marks.map(clock), incrs: clockIncrements, space: 80 });
  function throughput(holder, t) {
    const rates = t.rates.map((p) => p[1]), step = t.rates.length > 1 ? t.rates[1][0] - t.rates[0][0] : t.seconds;
    const x = [Math.max(0, t.rates[0][0] - step), ...t.rates.map((p) => p[0])], y = [rates[0], ...rates];
    return new uPlot({
      width: width(holder), height: 200, legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (u, a, b) => [a, b] }, y: { range: [0, Math.max(...rates) * 1.08 || 1] } },
      series: [{}, { stroke: data.colours.bar, width: 1.6, fill: "rgba(0,114,178,0.12)", paths: uPlot.paths.stepped({ align: -1 }), points: { show: false } }],
      axes: [times(), axis({ label: "variants/s", size: 60 })],
      hooks: { ready: [leaveHides], setCursor: [(u) => {
        const i = u.cursor.idx;
        if (i === null || i === undefined || u.cursor.left < 0) { hideTip(); return; }
        showTip(u, [short(y[i]) + " variants/s", "until " + clock(x[i])]);
      }] },
    }, [x, y], holder);
  }
  function workers(holder, t) {
    const count = t.workers.length, row = Math.max(2, Math.min(22, Math.floor(520 / count)));
    const named = row >= 12, rows = t.workers.map(() => []);
    t.bars.forEach((b) => rows[b[0]].push(b));
    const shades = ["#0072b2", "#56b4e9"];
    function draw(u) {
      clipped(u, (ctx) => rows.forEach((bars, w) => {
        const top = u.valToPos(w, "y", true), bottom = u.valToPos(w + 1, "y", true), gap = Math.min(2 * uPlot.pxRatio, (bottom - top) * 0.15);
        bars.forEach((b, k) => {
          const left = u.valToPos(b[1], "x", true), right = u.valToPos(b[2], "x", true);
          ctx.fillStyle = shades[k % 2];
          ctx.fillRect(left, top + gap, Math.max(1, right - left), bottom - top - 2 * gap);
        });
      }));
    }
    return new uPlot({
      width: width(holder), height: count * row + 60, legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (u, a, b) => [a, b] }, y: { dir: -1, range: [0, count] } },
      series: [{}, bare],
      axes: [times(), axis({ size: named ? 130 : 60, grid: { show: false }, ticks: { show: false },
        splits: () => (named ? t.workers.map((_, i) => i + 0.5) : [0.5, count - 0.5]),
        values: (u, marks) => marks.map((v) => { const name = t.workers[Math.floor(v)]; return named ? (name.length > 18 ? name.slice(0, 17) + "\u2026" : name) : "#" + Math.ceil(v); }) })],
      hooks: { draw: [draw], ready: [leaveHides], setCursor: [(u) => {
        const { left, top } = u.cursor;
        if (left < 0) { hideTip(); return; }
        const w = Math.floor(u.posToVal(top, "y")), at = u.posToVal(left, "x");
        const bar = (rows[w] || []).find((b) => at >= b[1] && at <= b[2]);
        if (!bar) { hideTip(); return; }
        showTip(u, [t.workers[w], number.format(bar[3]) + " variants" + (bar[4] > 1 ? " in " + number.format(bar[4]) + " parts" : ""), clock(bar[1]) + " to " + clock(bar[2])]);
      }] },
    }, [[0, t.seconds || 1], [0, count]], holder);
  }

  // ---- tracks around a variant
  function profile(holder, p, key) {
    const sync = uPlot.sync(key), made = [];
    const x = p.tracks[0].reference.map((_, i) => p.start + (i + 0.5) * p.bin);
    const end = p.start + x.length * p.bin, mark = p.variant - 0.5;
    let zooming = false;
    function follow(u, scale) {
      if (scale !== "x" || zooming) return;
      zooming = true;
      made.forEach((other) => { if (other !== u) other.setScale("x", { min: u.scales.x.min, max: u.scales.x.max }); });
      zooming = false;
    }
    function options(height, series, yAxis, xAxis, yRange, more) {
      return Object.assign({
        width: width(holder), height, legend: { show: false },
        cursor: { y: false, sync: { key }, drag: { x: true, y: false }, points: { size: 5 } },
        scales: { x: { time: false, range: (u, a, b) => (a === null ? [p.start, end] : [a, b]) }, y: { range: yRange } },
        series: [{}, ...series],
        axes: [axis(xAxis), axis(yAxis)],
      }, more);
    }
    const hidden = { show: false };
    const step = uPlot.paths.stepped({ align: 1 });
    const edges = [...x.map((v) => v - p.bin / 2), end];
    const held = (values) => [...values, values[values.length - 1]];
    p.tracks.forEach((t) => {
      holder.append(element("div", "track-name", t.name));
      const marker = (u) => verticalLine(u, mark, INK);
      const tell = (u) => {
        const i = u.cursor.idx;
        if (i === null || i === undefined || u.cursor.left < 0 || i >= x.length) { hideTip(); return; }
        if (!u.over.matches(":hover")) return;
        showTip(u, [p.chromosome + ":" + number.format(p.start + i * p.bin + 1) + "-" + number.format(p.start + (i + 1) * p.bin), "reference " + short(t.reference[i]), "alternate " + short(t.alternate[i]), "difference " + short(t.difference[i])]);
      };
      const hooks = { draw: [marker], setCursor: [tell], setScale: [follow], ready: [leaveHides] };
      made.push(new uPlot(options(118, [
        { stroke: data.colours.reference, width: 1.6, fill: "rgba(138,143,152,0.25)", paths: step, points: hidden },
        { stroke: data.colours.alternate, width: 1.2, paths: step, points: hidden },
      ], { size: 62, space: 24 }, hidden, (u, a, b) => [Math.min(0, a || 0), b * 1.05 || 1], { hooks }), [edges, held(t.reference), held(t.alternate)], holder));
      made.push(new uPlot(options(84, [
        { stroke: data.colours.difference, width: 1.2, fill: "rgba(213,94,0,0.25)", paths: step, points: hidden },
      ], { size: 62, space: 14 }, hidden, (u, a, b) => { const m = 1.1 * Math.max(Math.abs(a), Math.abs(b)) || 1; return [-m, m]; }, { hooks }), [edges, held(t.difference)], holder));
    });
    made.push(geneRow(holder, p, x, end, mark, options, follow));
    made.forEach((u) => { sync.sub(u); u.over.addEventListener("dblclick", () => setTimeout(() => made.forEach((o) => o.setScale("x", { min: p.start, max: end })), 0)); });
    return made;
  }
  function geneRow(holder, p, x, end, mark, options, follow) {
    const most = 4, scale = (end - p.start) / width(holder);
    const lanes = [];
    p.genes.forEach((g) => {  // a lane in which neither the gene nor its name meets another
      g.lane = lanes.findIndex((free) => free < g.start);
      if (g.lane < 0) g.lane = lanes.push(0) - 1;
      lanes[g.lane] = Math.max(g.end, Math.max(g.start, p.start) + (g.name.length + 3) * 7.5 * scale);
    });
    const rows = Math.min(most, Math.max(p.genes.length ? lanes.length : 0, 0));
    function draw(u) {
      const ratio = uPlot.pxRatio;
      verticalLine(u, mark, INK);
      clipped(u, (ctx) => {
        ctx.font = 11 * ratio + "px system-ui, Arial, sans-serif";
        ctx.textBaseline = "middle";
        p.genes.filter((g) => g.lane < rows).forEach((g) => {
          const y = u.bbox.top + (g.lane * 26 + 17) * ratio;
          const left = u.valToPos(g.start, "x", true), right = u.valToPos(g.end, "x", true);
          ctx.fillStyle = g.strand === "-" ? "#7a4fa3" : "#00755a";
          ctx.fillRect(left, y - 0.5 * ratio, Math.max(1, right - left), ratio);
          (g.exons.length ? g.exons : [[g.start, g.end]]).forEach((e) => {
            const a = u.valToPos(e[0], "x", true), b = u.valToPos(e[1], "x", true);
            ctx.fillRect(a, y - 4 * ratio, Math.max(ratio, b - a), 8 * ratio);
          });
          const text = g.strand === "-" ? "\u25c2 " + g.name : g.name + " \u25b8";
          ctx.fillText(text, Math.min(Math.max(left, u.bbox.left), u.bbox.left + u.bbox.width - ctx.measureText(text).width), y - 12 * ratio);
        });
      });
    }
    return new uPlot(options(50 + rows * 26 + 8, [bare], { show: false, size: 62 }, { values: (u, marks) => marks.map((v) => number.format(v)), label: "chromosome " + p.chromosome, space: 110 }, [0, 1], {
      padding: [null, null, null, 62],
      hooks: { draw: [draw], setScale: [follow] },
    }), [[p.start, end], [0, 1]], holder);
  }

  // ----
  const at = (id) => document.getElementById(id);
  const boxes = data.distributions.map((d) => {  // all of them before the first is drawn: they share the width
    const cell = element("div"), box = element("div");
    cell.append(element("h4", "", d.assay), box);
    at("plot-distributions").append(cell);
    return box;
  });
  plots.distributions = data.distributions.map((d, i) => histogram(boxes[i], d));
  if (data.manhattan.x.length) plots.manhattan = manhattan(at("plot-manhattan"), data.manhattan);
  if (data.timeline.bars.length) {
    if (data.timeline.rates.length) plots.throughput = throughput(at("plot-throughput"), data.timeline);
    plots.workers = workers(at("plot-workers"), data.timeline);
  }
  plots.profiles = data.profiles.map((p, i) => profile(at("plot-profile-" + i), p, "profile-" + i));
})();
