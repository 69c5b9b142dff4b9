# docker build -t tandem:dev .
# A shell-less image of your own choice: docker build --build-arg RUNTIME=<image with Node 24 at /usr/local/bin/node> .
ARG RUNTIME=node:24-bookworm-slim

FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY scripts scripts
COPY src src
RUN npm run build && node scripts/native.ts dist

# The bundle, the packages of machine code beside it, and the manifests that `tandem demo` shows. Nothing is written at run
# time: run it with a read-only root.
FROM ${RUNTIME}
WORKDIR /app
COPY --from=build /src/package.json ./
COPY --from=build /src/dist/*.js dist/
COPY --from=build /src/dist/node_modules dist/node_modules
COPY manifests/examples manifests/examples
COPY manifests/envoy manifests/envoy
ENV NODE_ENV=production
USER 65532:65532
EXPOSE 9443 9002 9003 9090 8081
ENTRYPOINT ["node", "/app/dist/tandem.js"]
CMD ["--help"]
