# frozen_string_literal: true

require "open3"

RSpec.describe "The gem" do
  lib = File.expand_path("../lib", __dir__)

  def ruby(*) = Open3.capture3(RbConfig.ruby, *)

  %w[kino kino-uring].each do |name|
    it "is loaded by #{name}" do
      output, = ruby("-I", lib, "-e", "require '#{name}'; print Kino::VERSION, Kino::Native::VERSION")
      expect(output).to eq Kino::VERSION * 2
    end
  end

  it "says so when Kino's own gem is loaded already" do
    _, errors, status = ruby("-I", lib, "-e", "module Kino; VERSION = '0.7.2'; end; require 'kino-uring'")
    expect(status).not_to be_success
    expect(errors).to include "Kino is loaded already, from -e: the gems kino and kino-uring both"
  end

  it "exports nothing from its extension but its entry" do
    extension = $LOADED_FEATURES.grep(/kino_ext/).first
    symbols, = Open3.capture2("nm", "-D", "--defined-only", extension)
    expect(symbols.lines.map { _1.split.last }).to eq %w[Init_kino_ext]
  end
end
