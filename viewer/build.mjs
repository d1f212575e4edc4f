// Builds the page into the Python package: names hold the content's hash, licences of all that is inside lie beside it.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const out = process.argv[2] ?? "../src/bleedmap/server/static";
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
// NiiVue can read Zarr, whose WebAssembly decoders are larger than all the rest; we send NIfTI alone.
const withoutZarr = {
  name: "without-zarr",
  setup: (one) => {
    one.onResolve({ filter: /^zarrita$/ }, () => ({ path: "zarrita", namespace: "empty" }));
    one.onLoad({ filter: /.*/, namespace: "empty" }, () => ({ contents: "module.exports = {}", loader: "js" }));
  },
};
const made = await build({
  entryPoints: { app: "src/main.ts" }, outdir: out, bundle: true, splitting: true, format: "esm", target: "es2022", minify: true,
  entryNames: "[name]-[hash]", chunkNames: "[name]-[hash]", metafile: true, legalComments: "none", plugins: [withoutZarr], logLevel: "warning",
});
const named = (ending) => Object.keys(made.metafile.outputs).find((one) => made.metafile.outputs[one].entryPoint && one.endsWith(ending))
  ?? Object.keys(made.metafile.outputs).find((one) => one.endsWith(ending));
const icon = await readFile("src/icon.svg"), iconName = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8)}.svg`;
await writeFile(`${out}/${iconName}`, icon);
const base = (path) => path.split("/").pop();
const page = (await readFile("src/index.html", "utf-8")).replace("{style}", base(named(".css"))).replace("{script}", base(named(".js"))).replace("{icon}", iconName);
await writeFile(`${out}/index.html`, page);

// Every package that has a line in the build, with its licence: from the package, or from licences/ where it ships none.
const packages = [...new Set(Object.keys(made.metafile.inputs).map((one) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(one)?.[1]).filter(Boolean))].sort();
const texts = ["The page of `bleedmap serve` holds these packages.\n"];
for (const name of packages) {
  const about = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf-8"));
  const file = (await readdir(`node_modules/${name}`)).find((one) => /^licen[cs]e/i.test(one));
  const text = await readFile(file ? `node_modules/${name}/${file}` : `licences/${name.replace("/", "_")}.txt`, "utf-8");
  texts.push(`${"=".repeat(100)}\n${name} ${about.version} (${about.license})\n\n${text.trim()}\n`);
}
await writeFile(`${out}/LICENCES.txt`, texts.join("\n"));
