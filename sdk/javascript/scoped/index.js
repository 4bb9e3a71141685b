export * from "tensorone-sdk";
export { default } from "tensorone-sdk";
