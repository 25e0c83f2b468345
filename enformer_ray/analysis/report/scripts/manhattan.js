// The Manhattan plot.
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

  function shade(u) {  // every other chromosome, below the grid
    clipped(u, (ctx) => {
      ctx.fillStyle = "#f5f6f7";
      m.stretches.forEach((s, i) => {
        const left = u.valToPos(s.offset, "x", true), right = u.valToPos(s.offset + s.last - s.first, "x", true);
        if (i % 2) ctx.fillRect(left, u.bbox.top, Math.max(1, right - left), u.bbox.height);
      });
    });
  }
  function draw(u) {
    const ratio = uPlot.pxRatio, xs = u.scales.x, ys = u.scales.y, box = u.bbox;
    const kx = box.width / (xs.max - xs.min), ky = box.height / (ys.max - ys.min);
    const from = firstAtLeast(m.x, xs.min), to = firstAtLeast(m.x, xs.max + 1);
    const few = to - from < 3000;
    clipped(u, (ctx) => {
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
    hooks: { drawClear: [shade], draw: [draw], setCursor: [hover], ready: [leaveHides] },
  }, [m.x, m.y], holder);
  const all = () => u.batch(() => { u.setScale("x", { min: full.x[0], max: full.x[1] }); u.setScale("y", { min: full.y[0], max: full.y[1] }); });
  all();
  u.over.addEventListener("dblclick", () => setTimeout(all, 0));
  document.getElementById("zoom-out").addEventListener("click", all);
  u.hovered = () => hovered;
  return u;
}
