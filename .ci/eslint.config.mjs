// The scripts of the page are one program, in a function of its own: page.py puts them together.
import js from "@eslint/js";

const browser = ["window", "document", "location", "history", "performance", "matchMedia",
  "requestAnimationFrame", "setTimeout", "clearTimeout", "addEventListener", "removeEventListener",
  "getComputedStyle", "devicePixelRatio", "innerWidth", "innerHeight", "atob", "Blob", "Response", "URLSearchParams",
  "DecompressionStream", "ResizeObserver"];

export default [
  js.configs.recommended,
  {
    languageOptions: {
      sourceType: "script",
      globals: Object.fromEntries(browser.map(name => [name, "readonly"])),
    },
    linterOptions: {reportUnusedDisableDirectives: "error"},
    rules: {
      "no-unused-vars": ["error", {args: "all", argsIgnorePattern: "^_", varsIgnorePattern: "^_"}],
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: "error",
      "no-use-before-define": ["error", {functions: false, variables: false}],
      "max-len": ["error", {code: 110}],
    },
  },
];
