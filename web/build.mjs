// Builds the page into the package, where `esdcodec demo --static` finds it: `node build.mjs [FOLDER]`;
// or the tests: `node build.mjs --tests [FOLDER]`.

import { build } from "esbuild";
import { copyFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";

const tests = process.argv[2] === "--tests";
const target = process.argv[tests ? 3 : 2] ?? (tests ? "build" : "../esdcodec/assets/web");
const RUNTIME = "node_modules/onnxruntime-web/dist";
const shared = { bundle: true, format: "esm", target: "es2022", logLevel: "warning", charset: "utf8" };

rmSync(target, { recursive: true, force: true });
if (tests) {
  await build({
    ...shared,
    entryPoints: readdirSync("test").map((name) => `test/${name}`),
    outdir: target,
    outExtension: { ".js": ".mjs" },
    platform: "node",
    packages: "external",
  });
} else {
  mkdirSync(`${target}/gpu`, { recursive: true });
  const page = { ...shared, minify: true, sourcemap: false, legalComments: "eof" };
  await build({ ...page, entryPoints: ["src/page.ts", "src/microphone.ts", "src/worker.ts"], outdir: target });
  await build({ ...page, entryPoints: ["src/service-worker.ts"], outdir: target, format: "iife" });
  await build({
    ...page,
    entryPoints: ["src/worker.ts"],
    outdir: `${target}/gpu`,
    alias: { "onnxruntime-web/wasm": "onnxruntime-web/webgpu" },
  });
  for (const name of ["index.html", "style.css", "icon.svg"]) copyFileSync(`src/${name}`, `${target}/${name}`);
  copyFileSync(`${RUNTIME}/ort-wasm-simd-threaded.wasm`, `${target}/runtime.wasm`);
  copyFileSync(`${RUNTIME}/ort-wasm-simd-threaded.asyncify.wasm`, `${target}/gpu/runtime.wasm`);
  copyFileSync("src/LICENSES.txt", `${target}/LICENSES.txt`);
}
