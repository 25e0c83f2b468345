// Draws all plots from the JSON in the page.
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
