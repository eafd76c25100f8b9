--- Is an optimizer any good? It and tuned baselines on the same tasks, searched alike; the answer as summary.md and
-- report.html. README.md has the protocol.
--   glsrun experiments/compare.lua --optimizer mine.lua
--   glsrun experiments/compare.lua --optimizer mine.lua --study
require("gls.compare").run()
