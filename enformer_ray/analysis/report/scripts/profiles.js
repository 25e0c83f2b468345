// Reference and alternate tracks around a variant, their difference, and genes.
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
      width: width(holder), height, legend: { show: false }, padding: [8, 16, 8, 0],
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
  const rows = Math.min(most, lanes.length);
  function draw(u) {
    const ratio = uPlot.pxRatio;
    verticalLine(u, mark, INK);
    clipped(u, (ctx) => {
      ctx.font = 11 * ratio + "px system-ui, Arial, sans-serif";
      ctx.textBaseline = "middle";
      ctx.textAlign = "left";
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
  return new uPlot(options(74 + rows * 26, [bare], { show: false, size: 62 }, { values: (u, marks) => marks.map((v) => number.format(v)), label: "chromosome " + p.chromosome, space: 110 }, [0, 1], {
    padding: [0, 16, 0, 62],  // no y axis, but as much room
    hooks: { draw: [draw], setScale: [follow] },
  }), [[p.start, end], [0, 1]], holder);
}
