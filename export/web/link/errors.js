/** The errors that these modules raise on purpose; messages name argument or file, rule and value. */

/** An argument breaks a stated rule. */
export class InputError extends Error {
  name = "InputError";
}

/** A file of a bundle is missing, altered, or of another version. */
export class ArtifactError extends Error {
  name = "ArtifactError";
}
