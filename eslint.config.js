import tseslint from "typescript-eslint";

/** Time, randomness and the environment come in through `ports`, so that every decision can be replayed. */
const injected = [
  {
    selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
    message: "Take a Clock from ports.",
  },
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: "Take a Clock from ports." },
  {
    selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
    message: "Take a Random from ports.",
  },
  {
    selector: "MemberExpression[object.name='process'][property.name='env']",
    message: "Read the environment in config only.",
  },
  { selector: "CallExpression[callee.name=/^set(Timeout|Interval)$/]", message: "Take Timers from ports." },
];

export default tseslint.config(
  { ignores: ["node_modules", "dist", ".tap", "eslint.config.js"] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/explicit-module-boundary-types": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "no-console": "error",
      complexity: ["error", 10],
      "max-depth": ["error", 3],
      "max-params": ["error", 4],
      "max-lines": ["error", { max: 400, skipBlankLines: true, skipComments: true }],
      "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true }],
    },
  },
  { files: ["src/**"], rules: { "no-restricted-syntax": ["error", ...injected] } },
  { files: ["src/config/**", "src/cli/input.ts"], rules: { "no-restricted-syntax": "off" } },
  {
    files: ["test/**", "scripts/**"],
    rules: {
      "max-lines-per-function": "off",
      // tap queues its own tests: t.test(...) at the top of a file is meant to float.
      "@typescript-eslint/no-floating-promises": "off",
      "@typescript-eslint/no-non-null-assertion": "off",
      "no-console": "off",
    },
  },
);
