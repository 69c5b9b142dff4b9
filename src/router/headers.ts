/** Request and response headers as HTTP/2 carries them. */

/** Names in lower case, in the order received; a name may repeat. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** The first value of a header, or the empty string. */
export const headerOf = (headers: HeaderList, name: string): string => headers.find(([key]) => key === name)?.[1] ?? "";
