/** What the commands share: one-line errors, the runtime's name, tables. */

import { parseArgs } from "node:util";

import { ArtifactError, InputError, RUNTIMES } from "./link.mjs";

/**
 * Run a command: parse the arguments, print an error made on purpose as one line and exit with 2.
 *
 * @param {string} usage printed for --help and where positional arguments are missing
 * @param {object} options as for `parseArgs`; `runtime` and `help` are added
 * @param {number} needed positional arguments
 * @param {(values: object, positionals: string[]) => Promise<number>} body gives the exit status
 */
export async function command(usage, options, needed, body) {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        ...options,
        runtime: { type: "string", default: "node" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(usage);
      return;
    }
    if (positionals.length < needed) throw new InputError(usage.split("\n")[0]);
    if (!RUNTIMES.includes(values.runtime)) {
      throw new InputError(`'--runtime' must be one of ${RUNTIMES.join(", ")}, not '${values.runtime}'`);
    }
    process.exitCode = await body(values, positionals);
  } catch (error) {
    const isOurs = error instanceof InputError || error instanceof ArtifactError;
    const isUsage = error.code?.startsWith("ERR_PARSE_ARGS");
    const isMissing = error.code === "ERR_MODULE_NOT_FOUND";
    if (!isOurs && !isUsage && !isMissing) throw error;
    console.error(`error: ${isMissing ? `${error.message}; run: npm install` : error.message}`);
    process.exitCode = 2;
  }
}

/** A whole number of an option, from `least` on. */
export function whole(name, text, least) {
  if (!/^\d+$/.test(text) || Number(text) < least) {
    throw new InputError(`'--${name}' must be a whole number from ${least}, not '${text}'`);
  }
  return Number(text);
}

/** Print rows in columns, the first as headings. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  for (const row of rows) {
    console.log(
      row
        .map((cell, column) => String(cell).padEnd(widths[column]))
        .join("  ")
        .trimEnd(),
    );
  }
}
